"""Verbs without subcommands, one module each."""
