"""``personaprobe organisms``: the trios that can be studied by name."""
