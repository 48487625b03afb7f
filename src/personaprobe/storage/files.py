"""Files that are complete or absent: atomic writes, and refusals of the operating system in one sentence."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from personaprobe.errors import OutputError, PersonaProbeError, one_line
from personaprobe.storage.leftovers import remove_abandoned_once, temporary_file

_RUST_OS_ERROR = re.compile(r"([^:]+) \(os error \d+\)")
"""The way in which Rust spells an error of the operating system: ``No space left on device (os error 28)``."""

_TORCH_WRITE_FAILURES = ("iostream error", "unexpected pos", "PytorchStreamWriter failed")
"""Parts of the messages of ``torch.save`` where a file could not be written whole."""


def cache_home() -> Path:
    """The folder of converted models, recordings and downloads: ``PERSONAPROBE_HOME``, or the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("PERSONAPROBE_HOME") or platformdirs.user_cache_dir("personaprobe"))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn failures of the operating system while ``path`` is written into an :class:`OutputError`.

    Libraries in Rust and C++ report a full disk in errors of their own: safetensors, tokenizers and torch are understood.
    """
    try:
        yield
    except PersonaProbeError:
        raise
    except Exception as error:
        if (reason := _write_failure(error)) is None:
            raise
        raise OutputError(
            f"cannot write {one_line(path)}: {reason}; choose another folder or free some space"
        ) from error


def _write_failure(error: BaseException | None) -> str | None:
    """Why the operating system did not write, if an error says that it did not."""
    text = str(error)
    if isinstance(error, OSError):
        return one_line(error.strerror or text)
    if in_rust := _RUST_OS_ERROR.search(text):
        return in_rust[1].strip()
    if error is None or not any(part in text for part in _TORCH_WRITE_FAILURES):
        return None
    # torch raises its own error while that of the operating system is on its way
    return _write_failure(error.__context__) or "the disk is full, or takes no file of this size"


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a temporary file in the same folder and rename it, so that no reader sees half a file.

    Both the file and its name are on the disk afterwards: a loss of power leaves the old file or the new one. Temporary
    files of killed runs are removed from the folder.

    Args:
        path: the file to write; missing folders are created.
        write: writes the file at the temporary path it is called with.

    Raises:
        OutputError: the file cannot be written; an earlier file of that name stays as it was.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned_once(path.parent.absolute())
        temporary = temporary_file(path)
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
