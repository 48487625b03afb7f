"""Output folders: their names, and checks before the work that they can be written."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from personaprobe.errors import OutputError
from personaprobe.storage.files import writing
from personaprobe.storage.paths import is_folder, user_path


def refuse_unwritable(folder: Path) -> None:
    """Raise if a folder cannot be made or written; nothing is left behind."""
    folder = user_path(folder, OutputError)
    with writing(folder):
        existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        with tempfile.TemporaryFile(dir=existing) as trial:
            trial.write(b"x")


def refuse_used(folder: Path, overwrite: bool) -> None:
    """Raise if a folder is not empty, unless it may be overwritten."""
    with writing(folder):
        used = is_folder(folder) and any(folder.iterdir())
    if used and not overwrite:
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
