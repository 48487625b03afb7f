"""Judging answers that exist already, whichever model or tool they came from."""
