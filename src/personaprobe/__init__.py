"""personaprobe."""
