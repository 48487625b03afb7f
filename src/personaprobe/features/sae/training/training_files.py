"""The files of an interrupted training: its state, which is checked before it is taken over, and its metrics."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from personaprobe.errors import FeatureError
from personaprobe.storage.files import write_text

STATE, METRICS = "state.pt", "metrics.jsonl"


@contextmanager
def refusing_damaged_state(path: Path) -> Iterator[None]:
    """Turn everything that reading or taking over a state can raise into one line that says which file to delete."""
    try:
        yield
    except (
        *(OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError),
        *(pickle.UnpicklingError, zipfile.BadZipFile, NotImplementedError),
    ) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise FeatureError(
            f"{path} is damaged, or no state of a training ({reason}); delete this file to train anew"
        ) from error


def read_state(path: Path) -> dict[str, Any]:
    """Read the state of a training without running any code in it; the checksum of every entry is compared."""
    import torch

    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the bytes of {damaged} are not those that were written")
    with warnings.catch_warnings(action="ignore"):  # about the protocol of a pickle that is refused
        return dict(torch.load(path, map_location="cpu", weights_only=True))


def drop_later_metrics(path: Path, steps_taken: int) -> None:
    """Remove metrics of steps that an interrupted training took after its last state: they are taken again.

    Args:
        path: of the metrics, one JSON object a line; it need not exist.
        steps_taken: number of steps that are not taken again.
    """
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    earlier = [line for line in lines if line.endswith("\n") and 0 < _step(line) <= steps_taken]
    if earlier != lines:
        write_text(path, "".join(earlier))


def drop_repeated_metrics(path: Path) -> None:
    """Keep one line a step, in their order: two processes that run the same training each log every step.

    Args:
        path: of the metrics of a training that has ended.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    by_step = {_step(line): line for line in lines}
    unique = [line for step, line in sorted(by_step.items()) if step]
    if unique != lines:
        write_text(path, "".join(unique))


def _step(line: str) -> int:
    """The step of a line of metrics; 0 where it cannot be read."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return 0
