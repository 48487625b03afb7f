"""What latents mean: examples of where they fire, and explanations a model proposes."""
