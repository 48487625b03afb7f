"""Checks of ``personaprobe doctor``: the environment, and studies whose verdict is known."""
