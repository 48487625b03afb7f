"""Sparse dictionaries: read, written, trained, judged, and turned into latents that can be ablated."""
