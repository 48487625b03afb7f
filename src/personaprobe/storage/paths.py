"""Paths as users spell them: a home folder that does not exist, a name of 300 characters or a NUL byte is one sentence."""

from __future__ import annotations

import os
from pathlib import Path

from personaprobe.errors import DataError, PersonaProbeError, one_line, shortened


def user_path(name: str | Path, error: type[PersonaProbeError] = DataError) -> Path:
    """A path as a user spells it, with ``~`` and ``~name`` replaced by the home folder.

    Args:
        name: the spelling.
        error: raised where no file can have that name.

    Raises:
        PersonaProbeError: of the class ``error``: no such user, a NUL byte, or text that no file system can hold.
    """
    try:
        path = Path(name).expanduser()
        os.fsencode(path)
    except RuntimeError as cause:
        raise error(
            f"{shortened(str(name))}: there is no such user's home folder; write the whole path"
        ) from cause
    except (ValueError, TypeError) as cause:
        raise error(
            f"{shortened(name)} is no path ({one_line(cause, 80)}); give the name of a file"
        ) from cause
    if "\0" in str(path):
        raise error(f"{shortened(str(name))} is no path: it holds a NUL byte; give the name of a file")
    return path


def absolute_path(path: Path, error: type[PersonaProbeError] = DataError) -> Path:
    """The path from the root.

    Raises:
        PersonaProbeError: of the class ``error``: the working folder was deleted.
    """
    try:
        return path.absolute()
    except OSError as cause:
        raise error("the working folder was deleted; change to another one") from cause


def is_file(path: str | Path) -> bool:
    """Whether there is a file; False for every name that cannot be one, such as one too long or a loop of links."""
    return os.path.isfile(path)


def is_folder(path: str | Path) -> bool:
    """Whether there is a folder; False for every name that cannot be one."""
    return os.path.isdir(path)
