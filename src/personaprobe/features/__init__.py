"""Features inside the models: activations, directions, the registry and sparse dictionaries."""
