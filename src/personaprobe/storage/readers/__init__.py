"""Readers of foreign files: one for each format, which turns every error into the caller's, and bounds what it reads."""
