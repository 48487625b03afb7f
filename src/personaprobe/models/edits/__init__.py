"""Edits of activations during a forward pass, the hooks that apply them, and the map of where each stream lives."""
