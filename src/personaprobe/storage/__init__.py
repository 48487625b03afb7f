"""What is kept on disk, and how: whole or absent files, JSON lines, and the cache of finished parts of a run."""
