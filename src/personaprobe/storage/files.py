"""Files that are complete or absent: atomic writes, and refusals of the operating system in one sentence."""

from __future__ import annotations

import errno
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

    Both the file and its name are on the disk afterwards: a loss of power leaves the old file or the new one.

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
            flush_to_disk(temporary)
            temporary.replace(path)
            flush_to_disk(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; else a loss of power may leave an empty file."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (
            errno.EINVAL,
            errno.ENOTSUP,
        ):  # a file system that cannot, such as some network shares
            raise
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
