"""Directions read off recorded activations, and the directions they are compared with."""
