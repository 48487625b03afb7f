"""The files of an interrupted training: its state, which is checked before it is taken over, and its metrics."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from personaprobe.errors import PersonaProbeError, one_line
from personaprobe.storage.digests import digest, tensor_bytes
from personaprobe.storage.files import write_atomically, write_text

STATE = "state.pt"
"""Everything that the next step of a training depends on."""

HASH = "sha256"


@contextmanager
def refusing_damaged_state(path: Path, error_class: type[PersonaProbeError]) -> Iterator[None]:
    """Turn everything that reading or taking over a state can raise into one line that says which file to delete."""
    try:
        yield
    except (
        *(OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError),
        *(pickle.UnpicklingError, zipfile.BadZipFile, NotImplementedError),
    ) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise error_class(
            f"{one_line(path)} is damaged, or no state of a training ({reason}); delete this file to train anew"
        ) from error


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write the state of a training, with a hash of all of it; the file is whole or absent."""
    import torch

    def write(temporary: Path) -> None:
        # torch.save stores the name of a path, which is random here; an open file has none
        with temporary.open("wb") as stream:
            torch.save({**state, HASH: _state_digest(state)}, stream)

    write_atomically(path, write)


def read_state(path: Path) -> dict[str, Any]:
    """Read the state of a training without running any code in it; its hash is compared.

    Raises:
        ValueError: it was cut short, changed, or written without a hash; other errors where it is no state at all.
    """
    import torch

    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the bytes of {damaged} are not those that were written")
    with warnings.catch_warnings(action="ignore"):  # about the protocol of a pickle that is refused
        state = dict(torch.load(path, map_location="cpu", weights_only=True))
    if HASH not in state:
        raise ValueError("it has no hash of its content: an older version wrote it")
    if state.pop(HASH) != _state_digest(state):
        raise ValueError("its hash is another: it was changed after it was written")
    return state


def _state_digest(state: Mapping[str, Any]) -> str:
    """Hash names, values, and the kind, shape and bytes of every tensor, wherever they stand in nested collections."""
    parts = [part for place, value in _leaves(state, ()) for part in (repr(place), *_content(value))]
    return digest(*parts, length=64)


def _leaves(value: Any, place: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, Mapping | list | tuple):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        yield place, type(value).__name__ if not isinstance(value, Mapping) else "mapping"
        for key, part in items:
            yield from _leaves(part, (*place, key))
    else:
        yield place, value


def _content(value: Any) -> tuple[str | memoryview, ...]:
    import torch

    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {tuple(value.shape)}", tensor_bytes(value)
    return (f"{type(value).__name__} {value!r}",)


def drop_later_metrics(path: Path, steps_taken: int, key: str = "step") -> None:
    """Remove metrics of steps that an interrupted training took after its last state: they are taken again.

    Args:
        path: of the metrics, one JSON object a line; it need not exist.
        steps_taken: number of steps that are not taken again.
        key: the field of a line that counts steps.
    """
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    earlier = [line for line in lines if line.endswith("\n") and 0 < _step(line, key) <= steps_taken]
    if earlier != lines:
        write_text(path, "".join(earlier))


def drop_repeated_metrics(path: Path) -> None:
    """Keep one line a step, in their order: two processes that run the same training each log every step.

    Args:
        path: of the metrics of a training that has ended.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    by_step = {_step(line, "step"): line for line in lines}
    unique = [line for step, line in sorted(by_step.items()) if step]
    if unique != lines:
        write_text(path, "".join(unique))


def _step(line: str, key: str) -> int:
    """The step of a line of metrics; 0 where it cannot be read."""
    try:
        return int(json.loads(line)[key])
    except (ValueError, TypeError, KeyError, RecursionError):
        return 0
