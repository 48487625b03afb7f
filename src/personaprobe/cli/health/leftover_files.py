"""Temporary files that killed runs left on the disk: named with their sizes, and removed on request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from personaprobe.cli.terminal.console import format_bytes
from personaprobe.cli.terminal.findings import Finding
from personaprobe.errors import CheckpointError
from personaprobe.storage.leftovers import Leftover


def leftover_findings() -> Iterator[Finding]:
    """Every temporary file or folder in the cache, the checkpoints and ``runs/``, with its size and its process."""
    for left in _leftovers():
        state = f"{format_bytes(size_on_disk(left.path))}, of {left.owner}"
        if left.is_abandoned:
            yield Finding("leftover", "warn", f"{left.path}: {state}; remove it with doctor --clean")
        else:
            yield Finding("unfinished", "ok", f"{left.path}: {state}")


def clean_leftovers() -> list[Finding]:
    """Remove what killed runs left; what running processes write stays."""
    findings = []
    for left in _leftovers():
        size = format_bytes(size_on_disk(left.path))
        if left.is_abandoned:
            left.remove()
        if not left.is_abandoned:
            findings.append(Finding("stays", "ok", f"{left.path}: {size}, of {left.owner}"))
        elif left.path.exists():
            findings.append(Finding("leftover", "fail", f"{left.path}: {size}; it cannot be removed"))
        else:
            findings.append(Finding("removed", "ok", f"{left.path}: {size}"))
    return findings or [Finding("leftovers", "ok", "none")]


def _leftovers() -> list[Leftover]:
    from personaprobe.storage.files import cache_home
    from personaprobe.storage.folders import checkpoints_folder
    from personaprobe.storage.leftovers import leftovers

    folders = [cache_home(), Path("runs")]
    with suppress(CheckpointError):  # another check says that there is none
        folders.append(checkpoints_folder())
    return leftovers(*folders, below=True)


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
