"""Whether two runs left the same files: byte for byte, but for what is named here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DURATIONS = ("seconds",)
"""Keys of JSON: how long an answer took is measured, and kept beside it. The hash of a part includes it."""
MOMENTS = ("made",)
"""Keys of JSON: when a study was concluded."""
JOURNALS = ("judgements.jsonl",)
"""Journals of parts that are computed side by side: in which order they end is left to chance, and no line may come twice
where one process writes them."""

_MOMENT = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")


def files(folder: Path) -> dict[str, Path]:
    """All files below a folder by their relative names, hidden ones and links included."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or not path.is_dir()
    }


def differences(one: Path, other: Path, is_shared: bool = False) -> list[str]:
    """What differs between the files of two folders, in words; empty where nothing does.

    Args:
        one: a folder.
        other: another.
        is_shared: whether two processes filled the other one at once, each of which may have added a part to a journal.
    """
    left, right = files(one), files(other)
    missing = [f"{name} is missing" for name in left if name not in right]
    further = [f"{name} is there too" for name in right if name not in left]
    changed = [
        f"{name} differs"
        for name in left
        if name in right and comparable(left[name], is_shared) != comparable(right[name], is_shared)
    ]
    read = [path for path in right.values() if not (is_shared and path.name in JOURNALS)]
    return missing + further + changed + [line for path in read for line in _repeated(path)]


def comparable(path: Path, is_shared: bool = False) -> bytes:
    """The bytes of a file without moments, durations and an order that is left to chance."""
    content = path.read_bytes()
    if path.name in JOURNALS:
        lines = content.splitlines()
        return b"\n".join(sorted(set(lines) if is_shared else lines))
    if path.suffix == ".html":
        return _MOMENT.sub(b"MOMENT", content)
    if path.suffix != ".json":
        return content
    try:
        value = json.loads(content)
    except ValueError:
        return content
    timed = _untimed(value)
    if timed != value and isinstance(timed, dict) and set(timed) == {"spec", "value", "sha256"}:
        del timed["sha256"]
    return json.dumps(timed).encode()


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(item) for key, item in value.items() if key not in DURATIONS + MOMENTS}
    return [_untimed(item) for item in value] if isinstance(value, list) else value


def _repeated(path: Path) -> list[str]:
    """Lines of a file of JSON lines that come twice, or steps that do."""
    if path.suffix != ".jsonl":
        return []
    lines = path.read_bytes().splitlines()
    steps = [line.split(b",")[0] for line in lines if line.startswith((b'{"step":', b'{"number":'))]
    is_repeated = len(set(lines)) < len(lines) or len(set(steps)) < len(steps)
    return [f"{path.name} repeats a line or a step"] if is_repeated else []
