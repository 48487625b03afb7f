"""Backends run the layers of a model: Hugging Face with plain hooks, nnsight, TransformerLens, or one from outside."""
