"""Answers that exist already, judged."""
