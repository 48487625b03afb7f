"""The search for the latents that carry the shift."""
