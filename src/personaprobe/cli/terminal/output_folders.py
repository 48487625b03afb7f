"""Output folders: their names, and checks before the work that they can be written."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from personaprobe.errors import OutputError
from personaprobe.storage.files import writing


def refuse_unwritable(folder: Path) -> None:
    """Raise if a folder cannot be made or written; nothing is left behind."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    with writing(folder), tempfile.TemporaryFile(dir=existing) as trial:
        trial.write(b"x")


def refuse_used(folder: Path, overwrite: bool) -> None:
    """Raise if a folder is not empty, unless it may be overwritten."""
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise OutputError(
            f"{folder} is not empty; choose another --out, or give --overwrite to replace its content"
        )


def slug(name: str) -> str:
    """A name in the form in which it is part of a folder's name.

    Examples:
        >>> slug("random@16:3")
        'random-16-3'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
