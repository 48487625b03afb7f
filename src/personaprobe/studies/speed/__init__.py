"""Speed of recording, scoring and generation on this machine, as ratios to the same work with transformers alone."""
