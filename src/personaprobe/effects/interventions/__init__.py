"""What is done to activations along a feature, and how much that moves them."""
