"""Sampled answers: the decode loop, its KV cache, and the prefixes it reuses."""
