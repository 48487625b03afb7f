"""Interpretation of latents: example contexts, profiles, and names that a model proposes."""
