"""Sparse products and the selection of active latents, with compiled kernels for CPUs and GPUs."""
