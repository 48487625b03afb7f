"""Locks of files that several processes read, change and write again: no change of one is lost to another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from personaprobe.errors import OutputError, one_line
from personaprobe.storage.files import writing

PATIENCE = 60.0
"""Seconds to wait for another process; a change takes a few milliseconds."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes and threads from changing a file in this way until the block ends; blocks may be nested.

    The operating system frees the lock of a process that is killed. An empty file ``.NAME.lock`` stays beside the file:
    if it were deleted, a process that waits for it and one that creates it anew would both hold the lock.

    Raises:
        OutputError: another process holds the lock for a minute, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        place = path.parent.resolve() / f".{path.name}.lock"
        lock = FileLock(
            place, timeout=PATIENCE, is_singleton=True
        )  # one object a file: it counts nested blocks
        try:
            lock.acquire()
        except Timeout as error:
            raise OutputError(
                f"another process has been changing {one_line(path)} for {PATIENCE:.0f} s; end it, and run this again"
            ) from error
    try:
        yield
    finally:
        lock.release()
