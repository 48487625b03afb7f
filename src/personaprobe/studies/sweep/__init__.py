"""The sweep: sources, layers and coefficients compared on discovery questions."""
