"""What a run folder already knows: finished parts of a study, by what determines them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from personaprobe.storage.files import write_text, writing


@dataclass(frozen=True)
class Memory:
    """Finished parts as JSON files named by a digest of their specification; None keeps nothing.

    An interrupted run finds every part that was finished and computes only the rest. Parts appear whole.
    """

    folder: Path | None

    def __post_init__(self) -> None:
        if self.folder is not None:
            with writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)

    def recall(
        self, spec: Mapping[str, Any], compute: Callable[[], Any], found: Callable[[], None] = lambda: None
    ) -> Any:
        """Return the part ``spec`` describes, computed now if it was not before.

        Args:
            spec: everything that determines the value, as plain data.
            compute: makes the value, as plain data.
            found: called where the part was there already.
        """
        path = self._path(spec)
        if path is None:
            return compute()
        if path.exists():
            found()
            return json.loads(path.read_text(encoding="utf-8"))["value"]
        value = compute()
        write_text(path, json.dumps({"spec": spec, "value": value}, default=str))
        return value

    def recall_all(
        self,
        specs: Sequence[Mapping[str, Any]],
        compute: Callable[[list[int]], Sequence[Any]],
        found: Callable[[int], None] = lambda _: None,
    ) -> list[Any]:
        """Return the parts ``specs`` describe; those that are missing are computed together.

        Args:
            specs: of each part.
            compute: makes the values of the parts with these indices.
            found: called with the index of a part that was there already.
        """
        known = {i: path for i, path in enumerate(map(self._path, specs)) if path and path.exists()}
        missing = [i for i in range(len(specs)) if i not in known]
        made = dict(zip(missing, compute(missing), strict=True)) if missing else {}
        return [self.recall(spec, partial(made.get, i), partial(found, i)) for i, spec in enumerate(specs)]

    def journal(self, name: str) -> Journal:
        """Parts too small for files of their own, kept as lines of one."""
        return Journal(None if self.folder is None else self.folder / f"{name}.jsonl")

    def _path(self, spec: Mapping[str, Any]) -> Path | None:
        return None if self.folder is None else self.folder / f"{digest_of(spec)}.json"


class Journal:
    """Finished parts as lines of one file, each written as soon as it is known; None keeps them for this run alone.

    A line that a kill cut short is passed over: its part was not finished.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known = dict(_lines(path)) if path is not None and path.exists() else {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Journal:
        if self._path is not None:
            with writing(self._path):
                self._file = self._path.open("a+b", buffering=0)
                if self._file.tell() and not _ends_a_line(self._file):
                    self._file.write(b"\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __contains__(self, spec: Mapping[str, Any]) -> bool:
        return digest_of(spec) in self._known

    def __getitem__(self, spec: Mapping[str, Any]) -> Any:
        return self._known[digest_of(spec)]

    def add(self, spec: Mapping[str, Any], value: Any) -> None:
        """Write down a part, as plain data; to be called between entering and leaving."""
        if spec not in self and self._path is not None and self._file is not None:
            with writing(self._path):
                self._file.write(f"{json.dumps({'spec': spec, 'value': value}, default=str)}\n".encode())
        self._known[digest_of(spec)] = value


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Digests and values of whole lines."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            part = json.loads(line)
        except ValueError:
            continue
        yield digest_of(part["spec"]), part["value"]


def _ends_a_line(lines: IO[bytes]) -> bool:
    lines.seek(-1, os.SEEK_END)
    return lines.read(1) == b"\n"


def digest_of(spec: Mapping[str, Any]) -> str:
    """Equal specifications have equal digests."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, default=str).encode()).hexdigest()[:20]
