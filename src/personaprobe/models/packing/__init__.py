"""Texts packed into rows without padding, and the attention that keeps them apart."""
