"""What a run folder already knows: finished parts of a study, by what determines them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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

    def recall(self, spec: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
        """Return the part ``spec`` describes, computed now if it was not before.

        Args:
            spec: everything that determines the value, as plain data.
            compute: makes the value, as plain data.
        """
        if self.folder is None:
            return compute()
        path = self.folder / f"{digest_of(spec)}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))["value"]
        value = compute()
        write_text(path, json.dumps({"spec": spec, "value": value}, default=str))
        return value


def digest_of(spec: Mapping[str, Any]) -> str:
    """Equal specifications have equal digests."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, default=str).encode()).hexdigest()[:20]
