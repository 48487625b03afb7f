"""``personaprobe sae``: dictionaries trained, evaluated and converted."""
