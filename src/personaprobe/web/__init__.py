"""Requests to servers: within a deadline, after so many bytes, and without a secret in any text that is kept."""
