"""Pages are tried on the tiny trio of the command line's tests."""

from __future__ import annotations

from cli.conftest import own_folders, shelf, tiny

__all__ = ["own_folders", "shelf", "tiny"]
