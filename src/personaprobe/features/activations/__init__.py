"""Recorded activations: what is recorded, what it costs, and the stores it is kept in."""
