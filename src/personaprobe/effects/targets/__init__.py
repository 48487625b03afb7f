"""Targets: the kinds of things a feature stands for, and the same fitted to a trio of models."""
