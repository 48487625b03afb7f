"""Files that are whole or absent: hashes, and writes that appear only when complete."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from personaprobe.errors import OutputError


def sha256_of(path: Path) -> str:
    """Hash a file's bytes (hex)."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def cache_home() -> Path:
    """Where converted models are kept: ``PERSONAPROBE_HOME``, or the platform's user cache folder."""
    import platformdirs

    return Path(os.environ.get("PERSONAPROBE_HOME") or platformdirs.user_cache_dir("personaprobe"))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write under ``path`` into one sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot write {path}: {reason}; choose another folder or free some space"
        ) from error


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file through a temporary neighbour, so that it is never seen half-written.

    Args:
        path: the file to appear.
        write: called with the temporary path; must create it.
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
    """Write a text file whole or not at all."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
