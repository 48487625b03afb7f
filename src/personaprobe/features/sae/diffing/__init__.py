"""Model diffing: which latents fine-tuning changed, and whether another seed would find the same."""
