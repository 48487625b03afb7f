"""Fused kernels: parts of a model in fewer passes over memory, patched in while many forward passes are made."""
