"""Pages are tried on the tiny trio of the command line's tests."""

from __future__ import annotations

from cli.conftest import checkpoints_home, own_folders, tiny

__all__ = ["checkpoints_home", "own_folders", "tiny"]
