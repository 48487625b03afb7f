"""The finished parts of a run, on disk: an interrupted run computes only the parts that are missing.

A part is identified by its specification: plain data that determines its value. Equal specifications have equal digests.
What is read back is checked: a part that was cut short, changed, or belongs to another specification is computed anew,
and a warning names its file.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personaprobe.errors import DataError, FallbackWarning
from personaprobe.storage.files import write_text, writing
from personaprobe.storage.journal import Journal
from personaprobe.storage.part_records import PartRecord, is_of_spec, part_record, spec_digest


def fits_any(value: Any) -> bool:
    """Whether a value can be that of a part about which nothing is known: always."""
    return True


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
        self,
        spec: Mapping[str, Any],
        compute: Callable[[], Any],
        on_hit: Callable[[], object] = lambda: None,
        *,
        fits: Callable[[Any], object] = fits_any,
    ) -> Any:
        """Return a part from the cache; compute and store it where it is missing.

        Args:
            spec: plain data that determines the value.
            compute: returns the value as plain data.
            on_hit: called where the part is in the cache.
            fits: whether a value that is read back can be the part, such as one number a question. Where it returns
                False or raises, the part is computed anew with a warning.
        """
        [value] = self.get_or_compute_all([spec], lambda _: [compute()], lambda _: on_hit(), fits=fits)
        return value

    def get_or_compute_all(
        self,
        specs: Sequence[Mapping[str, Any]],
        compute: Callable[[list[int]], Sequence[Any]],
        on_hit: Callable[[int], object] = lambda _: None,
        *,
        fits: Callable[[Any], object] = fits_any,
    ) -> list[Any]:
        """Return several parts; all missing ones are computed in one call.

        Args:
            specs: one specification a part.
            compute: returns the values of the parts with the given indices.
            on_hit: called with the index of each part that is in the cache.
            fits: as in :meth:`get_or_compute`.
        """
        values = {}
        for index, spec in enumerate(specs):
            record = self._read(spec, fits)
            if record is not None:
                on_hit(index)
                values[index] = record.value
        missing = [index for index in range(len(specs)) if index not in values]
        if missing:
            for index, value in zip(missing, compute(missing), strict=True):
                path = self._path(specs[index])
                if path is not None:
                    write_text(path, part_record(specs[index], value))
                values[index] = value
        return [values[index] for index in range(len(specs))]

    def journal(self, name: str, fits: Callable[[Any], object] = fits_any) -> Journal:
        """Open a journal: parts too small for files of their own, as lines of one file.

        Args:
            name: of the file, without its ending.
            fits: as in :meth:`get_or_compute`.
        """
        return Journal(None if self.folder is None else self.folder / f"{name}.jsonl", fits)

    def _read(self, spec: Mapping[str, Any], fits: Callable[[Any], object]) -> PartRecord | None:
        """The record of a part; None where there is none, and, with a warning, where it is not what was written."""
        path = self._path(spec)
        if path is None:
            return None
        try:
            record = PartRecord.parse(path.read_bytes(), fits)
            if is_of_spec(record, spec):
                return record
            problem: object = "holds another part of a run"
        except FileNotFoundError:
            return None
        except DataError as error:
            problem = error
        except OSError as error:
            problem = f"cannot be read ({error.strerror or error})"
        warnings.warn(f"{path} {problem}; the part is computed anew", FallbackWarning, stacklevel=4)
        return None

    def _path(self, spec: Mapping[str, Any]) -> Path | None:
        return None if self.folder is None else self.folder / f"{spec_digest(spec)}.json"
