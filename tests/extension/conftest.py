"""Extensions are tested on the tiny trio of the command line's tests, in folders of their own."""

from __future__ import annotations

from cli.conftest import own_folders, run, shelf, tiny

__all__ = ["own_folders", "run", "shelf", "tiny"]
