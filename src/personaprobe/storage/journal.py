"""A journal: parts of a run that are too small for files of their own, as lines of one JSON-lines file."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from personaprobe.errors import DataError, FallbackWarning
from personaprobe.storage.files import write_atomically, writing
from personaprobe.storage.part_records import PartRecord, part_record, spec_digest


class Journal:
    """Parts of a run as lines of one JSON-lines file, each appended as soon as it is computed.

    A last line without its end, as a killed run leaves it, is ignored: its part was not finished. Any other line that
    is not what was written is left out with a warning, and its part is computed anew. Without a file the parts live as
    long as the object.
    """

    def __init__(self, path: Path | None, fits: Callable[[Any], object] = lambda _: True) -> None:
        """Read the parts of a file.

        Args:
            path: the file; it need not exist.
            fits: whether a value can be that of a part.
        """
        self._path = path
        self._values: dict[str, Any] = {}
        self._lines: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._is_damaged = False
        if path is not None:
            self._read(path, fits)

    def __enter__(self) -> Journal:
        if self._path is not None:
            with writing(self._path):
                if self._is_damaged:
                    whole = b"".join(line + b"\n" for line in self._lines)
                    write_atomically(self._path, lambda temporary: temporary.write_bytes(whole))
                self._file = self._path.open("ab", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None and self._path is not None:
            with writing(self._path), self._file:
                os.fsync(self._file.fileno())
            self._file = None

    def __contains__(self, spec: Mapping[str, Any]) -> bool:
        return spec_digest(spec) in self._values

    def __getitem__(self, spec: Mapping[str, Any]) -> Any:
        return self._values[spec_digest(spec)]

    def add(self, spec: Mapping[str, Any], value: Any) -> None:
        """Append a part, as plain data; the journal must have been entered."""
        if spec not in self and self._path is not None and self._file is not None:
            with writing(self._path):
                self._file.write(f"{part_record(spec, value)}\n".encode())
        self._values[spec_digest(spec)] = value

    def _read(self, path: Path, fits: Callable[[Any], object]) -> None:
        """Read every whole line, and warn once of those that are not what was written."""
        try:
            *lines, last = path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}; delete it") from error
        problems: Counter[str] = Counter()
        for number, line in enumerate((*lines, last)):
            try:
                record = PartRecord.parse(line, fits)
            except DataError as error:
                if line.strip() and number < len(lines):
                    problems[str(error)] += 1
                continue
            self._values[record.digest] = record.value
            self._lines.append(line)
        self._is_damaged = bool(problems or last)
        for problem, n_lines in problems.items():
            warnings.warn(
                f"{path}: what {n_lines} of its lines hold is computed anew; each {problem}",
                FallbackWarning,
                stacklevel=4,
            )
