"""Files that others published: fetched by name into the user's cache, whole and by their hash, or not at all."""
