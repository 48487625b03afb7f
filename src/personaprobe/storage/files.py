"""Files that are complete or absent: atomic writes, and refusals of the operating system in one sentence."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from personaprobe.errors import OutputError, one_line


def cache_home() -> Path:
    """The folder of converted models, recordings and downloads: ``PERSONAPROBE_HOME``, or the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("PERSONAPROBE_HOME") or platformdirs.user_cache_dir("personaprobe"))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the operating system while ``path`` is written into an :class:`OutputError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot write {one_line(path)}: {reason}; choose another folder or free some space"
        ) from error


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a temporary file in the same folder and rename it, so that no reader sees half a file.

    Args:
        path: the file to write; missing folders are created.
        write: writes the file at the temporary path it is called with.

    Raises:
        OutputError: the file cannot be written; an earlier file of that name stays as it was.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
