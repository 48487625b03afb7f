"""Interpretation of latents: examples in which they fire, and explanations that a model proposes."""
