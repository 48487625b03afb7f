"""What a run folder already knows: finished parts of a study, by what determines them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from personaprobe.models.files import write_text, writing


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

    def knows(self, spec: Mapping[str, Any]) -> bool:
        """Whether the part ``spec`` describes was finished before."""
        path = self._path(spec)
        return path is not None and path.exists()

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

    def _path(self, spec: Mapping[str, Any]) -> Path | None:
        return None if self.folder is None else self.folder / f"{digest_of(spec)}.json"


def digest_of(spec: Mapping[str, Any]) -> str:
    """Equal specifications have equal digests."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, default=str).encode()).hexdigest()[:20]
