"""``personaprobe organisms``: registered trios, their verification, training and registration."""
