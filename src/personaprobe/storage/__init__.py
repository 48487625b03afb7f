"""Files on disk: atomic writes, JSON lines, TOML registries, digests, and the cache of a run's finished parts."""
