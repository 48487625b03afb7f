"""The preference gap of an evaluation's arms: a measure beside the judged answers that needs no judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from personaprobe.statistics.intervals import Interval


@dataclass(frozen=True)
class Preference:
    """The shift of the preference gap between insecure and secure, and its removal.

    Attributes:
        shift: insecure − secure preference for careless answers, nats per token.
        removed: fraction of it that the ablation removes.
    """

    shift: Interval
    removed: Interval

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"shift": self.shift.to_dict(), "fraction_removed": self.removed.to_dict()}
