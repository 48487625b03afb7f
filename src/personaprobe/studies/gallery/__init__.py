"""A gallery of organisms: the shift of each, and how much of it the persona of each other explains."""
