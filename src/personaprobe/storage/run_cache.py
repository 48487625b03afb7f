"""The finished parts of a run, on disk: an interrupted run computes only the parts that are missing.

A part is identified by its specification: plain data that determines its value. Equal specifications have equal digests.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from personaprobe.storage.digests import json_digest
from personaprobe.storage.files import write_text, writing


def spec_digest(spec: Mapping[str, Any]) -> str:
    """Digest of a part's specification: the name of its file."""
    return json_digest(spec, length=20, default=str)


@dataclass(frozen=True)
class RunCache:
    """The parts of a run as JSON files, each named by the digest of its specification and written atomically.

    Attributes:
        folder: where the files are; None keeps nothing, and every part is computed.
    """

    folder: Path | None

    def __post_init__(self) -> None:
        if self.folder is not None:
            with writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)

    def get_or_compute(
        self, spec: Mapping[str, Any], compute: Callable[[], Any], on_hit: Callable[[], object] = lambda: None
    ) -> Any:
        """Return a part from the cache; compute and store it where it is missing.

        Args:
            spec: plain data that determines the value.
            compute: returns the value as plain data.
            on_hit: called where the part is in the cache.
        """
        path = self._path(spec)
        if path is None:
            return compute()
        if path.exists():
            on_hit()
            return json.loads(path.read_text(encoding="utf-8"))["value"]
        value = compute()
        write_text(path, json.dumps({"spec": spec, "value": value}, default=str))
        return value

    def get_or_compute_all(
        self,
        specs: Sequence[Mapping[str, Any]],
        compute: Callable[[list[int]], Sequence[Any]],
        on_hit: Callable[[int], object] = lambda _: None,
    ) -> list[Any]:
        """Return several parts; all missing ones are computed in one call.

        Args:
            specs: one specification a part.
            compute: returns the values of the parts with the given indices.
            on_hit: called with the index of each part that is in the cache.
        """
        cached = {i: path for i, path in enumerate(map(self._path, specs)) if path and path.exists()}
        missing = [i for i in range(len(specs)) if i not in cached]
        computed = dict(zip(missing, compute(missing), strict=True)) if missing else {}
        return [
            self.get_or_compute(spec, partial(computed.get, i), partial(on_hit, i))
            for i, spec in enumerate(specs)
        ]

    def journal(self, name: str) -> Journal:
        """Open a journal: parts too small for files of their own, as lines of one file."""
        return Journal(None if self.folder is None else self.folder / f"{name}.jsonl")

    def _path(self, spec: Mapping[str, Any]) -> Path | None:
        return None if self.folder is None else self.folder / f"{spec_digest(spec)}.json"


class Journal:
    """Parts of a run as lines of one JSON-lines file, each appended as soon as it is computed.

    A truncated line, as a killed run leaves it, is ignored: its part was not finished. Without a file the parts live
    as long as the object.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._values = dict(_read_parts(path)) if path is not None and path.exists() else {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Journal:
        if self._path is not None:
            with writing(self._path):
                self._file = self._path.open("a+b", buffering=0)
                if self._file.tell() and not _ends_with_newline(self._file):
                    self._file.write(b"\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __contains__(self, spec: Mapping[str, Any]) -> bool:
        return spec_digest(spec) in self._values

    def __getitem__(self, spec: Mapping[str, Any]) -> Any:
        return self._values[spec_digest(spec)]

    def add(self, spec: Mapping[str, Any], value: Any) -> None:
        """Append a part, as plain data; the journal must have been entered."""
        if spec not in self and self._path is not None and self._file is not None:
            with writing(self._path):
                self._file.write(f"{json.dumps({'spec': spec, 'value': value}, default=str)}\n".encode())
        self._values[spec_digest(spec)] = value


def _read_parts(path: Path) -> Iterator[tuple[str, Any]]:
    """Digest and value of every complete line."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            part = json.loads(line)
        except ValueError:
            continue
        yield spec_digest(part["spec"]), part["value"]


def _ends_with_newline(stream: IO[bytes]) -> bool:
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"
