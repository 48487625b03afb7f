"""The sparse products and the selection of active latents, compiled for CPUs and GPUs."""
