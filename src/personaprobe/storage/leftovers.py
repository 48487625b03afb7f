"""Temporary files and folders: their names, and what killed runs left of them.

Every temporary neighbour of a file or folder is named here, ``.NAME.partial-MACHINE-PROCESS-RANDOM``, so that it can be
recognised later, and so that those of running processes are left alone.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from personaprobe.errors import OutputError
from personaprobe.storage.digests import digest
from personaprobe.storage.paths import absolute_path

OLD = 2 * 24 * 3600.0
"""Seconds without a change after which a leftover of another machine counts as abandoned; its process cannot be seen."""

LONGEST_NAME = 80
"""Bytes of a file's name within the name of its temporary file: file systems allow 255 in all."""

_PARTIAL = re.compile(
    r"\..+\.partial-(?P<machine>[0-9a-f]{8})-(?P<process>[0-9]{1,10})-\w{8}(?P<suffix>\.\w+)?"
)
_EARLIER = re.compile(r"\.[0-9a-f]{16,20}(?:\.json)?\.[a-z0-9_]{8}(?:\.json)?")
_EARLIER_MODEL = re.compile(r"tmp[a-z0-9_]{8}")
"""Names that versions up to 0.5 gave to temporary stores and parts, and in ``models/`` to a model, without a process."""


@dataclass(frozen=True)
class Leftover:
    """A temporary file or folder that stands on the disk.

    Attributes:
        path: of it.
        owner: the process that writes or wrote it, in words.
        is_abandoned: whether that process is gone, or nothing was written for two days where this cannot be known.
    """

    path: Path
    owner: str
    is_abandoned: bool

    def remove(self) -> None:
        """Remove it; a file that another process has removed in the meantime, or that may not be removed, is no error."""
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path, ignore_errors=True)
            return
        with suppress(OSError):
            self.path.unlink()


def temporary_file(path: Path) -> Path:
    """Make an empty temporary file beside ``path``, with its suffix, which some writers look at."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=path.suffix[:LONGEST_NAME])
    os.close(handle)
    return Path(name)


def temporary_folder(path: Path) -> Path:
    """Make a temporary folder beside ``path``."""
    return Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path)))


def leftovers(*folders: Path, below: bool = False) -> list[Leftover]:
    """The temporary files and folders that stand in some folders, those of running processes included.

    Args:
        folders: where to look; one that does not exist or cannot be read holds none.
        below: whether to look in all folders below them too.
    """
    paths = sorted({path for folder in folders for path in _names(absolute_path(folder, OutputError), below)})
    return [left for path in paths if (left := _as_leftover(path))]


def remove_abandoned(*folders: Path, below: bool = False) -> list[Leftover]:
    """Remove what killed runs left in some folders, and return it; what running processes write stays."""
    abandoned = [left for left in leftovers(*folders, below=below) if left.is_abandoned]
    for left in abandoned:
        left.remove()
    return abandoned


@cache
def remove_abandoned_once(folder: Path) -> None:
    """Remove, once in this process, the temporary files and folders that killed runs left in a folder that is written to.

    The folder may be anybody's, so that names that earlier versions gave, and which others may give too, stay.
    """
    for left in leftovers(folder):
        if left.is_abandoned and _PARTIAL.fullmatch(left.path.name):
            left.remove()


def _prefix(path: Path) -> str:
    name = path.name.encode(errors="replace")[:LONGEST_NAME].decode(errors="ignore")
    return f".{name}.partial-{_machine()}-{os.getpid()}-"


@cache
def _machine() -> str:
    """Where a process number means one process: this start of this machine, and in a container this container."""
    parts = [platform.node()]
    with suppress(OSError):  # both are there on Linux alone; elsewhere the name has to do
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return digest(*parts, length=8)


def _names(folder: Path, below: bool) -> Iterator[Path]:
    """Files and folders that may be temporary by their first letters, without what is inside such folders."""
    first = (".", "tmp")
    for place, folders, files in os.walk(folder):
        yield from (Path(place) / name for name in (*folders, *files) if name.startswith(first))
        folders[:] = [name for name in folders if not name.startswith(first)] if below else []


def _as_leftover(path: Path) -> Leftover | None:
    match = _PARTIAL.fullmatch(path.name)
    if match is None and not _is_earlier(path):
        return None
    if match is not None and match["machine"] == _machine():
        process = int(match["process"])
        is_running = _is_running(process, path)
        return Leftover(
            path, f"process {process}, which {'runs' if is_running else 'is gone'}", not is_running
        )
    age = time.time() - _last_change(path)
    owner = "an earlier version" if match is None else "another machine, or an earlier start of this one"
    return Leftover(path, f"{owner}, last changed {age / 3600:.0f} h ago", age > OLD)


def _is_earlier(path: Path) -> bool:
    pattern = _EARLIER_MODEL if path.parent.name == "models" and path.name.startswith("tmp") else _EARLIER
    return pattern.fullmatch(path.name) is not None


def _is_running(process: int, path: Path) -> bool:
    """Whether the process that made a file runs; a process that started after the file was made has only its number."""
    import psutil

    try:
        started = psutil.Process(process).create_time()
        return bool(started < path.lstat().st_mtime + 60)
    except (psutil.NoSuchProcess, OSError):
        return False
    except psutil.Error:  # it runs, and belongs to another user
        return True


def _last_change(path: Path) -> float:
    paths: Iterable[Path] = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    times = [0.0]
    for changed in paths:
        with suppress(OSError):
            times.append(changed.lstat().st_mtime)
    return max(times)
