"""Folders that results go to: how they are named, and whether they can be written, asked before the work."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from personaprobe.errors import OutputError
from personaprobe.storage.files import writing


def refuse_unwritable(folder: Path) -> None:
    """Raise where a folder could not be made or written, and leave no trace of having tried."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    with writing(folder), tempfile.TemporaryFile(dir=there) as trial:
        trial.write(b"x")


def refuse_used(folder: Path, overwrite: bool) -> None:
    """Raise where a folder already holds something that was not offered up."""
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise OutputError(
            f"{folder} is not empty; choose another --out, or give --overwrite to train anew there"
        )


def slug(name: str) -> str:
    """A name as part of a folder's name.

    Examples:
        >>> slug("random@16:3")
        'random-16-3'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
