"""The context of a run: where finished parts are kept, and how progress is shown. It asks no question."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from personaprobe.progress import Progress, silent
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
        """The context of a run folder, whose finished parts are kept in ``parts/``; None keeps none."""
        return cls(RunCache(None if folder is None else Path(folder) / "parts"), progress)
