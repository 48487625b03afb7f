"""A model while an adapter of it is trained: the same functions in fewer passes over memory, with their gradients."""
