"""The context of a run: where finished parts are kept, and how progress is shown. It asks no question."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from personaprobe.progress import Progress, silent
from personaprobe.storage.leftovers import remove_abandoned
from personaprobe.storage.run_cache import RunCache


@dataclass(frozen=True)
class RunContext:
    """The context that all measurements of a run share.

    Attributes:
        cache: of finished parts, by everything that determines them.
        progress: how long work shows itself.
    """

    cache: RunCache = field(default_factory=lambda: RunCache(None))
    progress: Progress = silent

    @classmethod
    def of(cls, folder: str | Path | None, progress: Progress = silent) -> RunContext:
        """The context of a run folder, whose finished parts are kept in ``parts/``; None keeps none.

        What a killed run left half written there is removed.
        """
        if folder is None:
            return cls(RunCache(None), progress)
        parts = Path(folder) / "parts"
        remove_abandoned(Path(folder), parts)
        return cls(RunCache(parts), progress)
