"""The engines that run a network: Hugging Face with plain hooks, nnsight, TransformerLens."""
