"""Who is studied: checkpoints, the hook engine and its backends, scoring and generation."""
