"""``personaprobe features``: what can be ablated by name, and rankings of latents."""
