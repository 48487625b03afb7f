"""What is done to activations in a forward pass: edits, the hooks that apply them, and where streams live."""
