"""Features by name: registered ones with their evidence, and the names of latents."""
