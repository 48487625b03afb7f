"""What a recording would take: disk, time and memory, from recording the few texts that take most."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from personaprobe.compute.hardware import peak_memory
from personaprobe.features.activations.recording import SHARD_BYTES, recorded
from personaprobe.features.activations.recording_spec import Recording, Texts
from personaprobe.features.activations.store_files import Keep
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.site import Site

PROBED = 2
"""Batches that each model reads in a plan: memory that one gave back does not fit the next one quite."""


@dataclass(frozen=True)
class Plan:
    """What a recording would cost if nothing of it is there yet.

    Attributes:
        n_texts: texts each model reads.
        n_tokens: tokens of the texts.
        n_read: tokens each model reads: what texts begin with in common once, padding too where there is some.
        n_rows: rows kept of each model.
        bytes: of all shards of all models, without the few kilobytes of their headers.
        seconds: for all models, from the largest batches timed on this machine.
        memory: bytes held at the peak, on the device if it has memory of its own.
        n_models: how many models read.
    """

    n_texts: int
    n_tokens: int
    n_read: int
    n_rows: int
    bytes: int
    seconds: float
    memory: int
    n_models: int = 1

    def __str__(self) -> str:
        each = (
            f"{self.n_texts:,} texts, {self.n_tokens:,} tokens ({self.n_read:,} read), {self.n_rows:,} rows"
        )
        cost = f"{_in_units(self.bytes)} on disk, {_in_units(self.memory)} of memory, about {_clock(self.seconds)}"
        return f"{each} a model × {self.n_models}: {cost}"


def plan(
    models: Trio[LanguageModel] | LanguageModel,
    texts: Texts,
    sites: str | Site | Sequence[str | Site],
    keep: Keep = "means",
) -> Plan:
    """Estimate what :func:`~personaprobe.features.activations.recording.record` would take: record the heaviest texts.

    Every model does, as adapters and weights that are laid out anew take memory too; what it writes is thrown away.
    """
    several = [models] if isinstance(models, LanguageModel) else [model for _, model in models.items()]
    model, n_models = several[0], len(several)
    recording = Recording.of(model, texts, sites, keep)
    heaviest, n_probed, n_read = _heaviest(model, recording)
    seconds = n_models * _seconds(several, heaviest) * n_read / n_probed
    whole, probed = (each.n_rows * each.row_bytes(model.d_model) for each in (recording, heaviest))
    device = model.network.device
    # rows wait on the CPU until a shard is full, and while it is written
    waiting = min(whole, 2 * SHARD_BYTES) - probed if device.type == "cpu" else 0
    return Plan(
        n_texts=len(recording.readings),
        n_tokens=recording.n_tokens,
        n_read=n_read,
        n_rows=recording.n_rows,
        bytes=n_models * whole,
        seconds=seconds,
        memory=peak_memory(device) + waiting,
        n_models=n_models,
    )


def _heaviest(model: LanguageModel, recording: Recording) -> tuple[Recording, int, int]:
    """The texts of the batches that take most, how many tokens are read of them, and of all."""
    texts = [reading.tokens for reading in recording.readings]
    batches = model.plan_batches(texts, model.batch_tokens("recording"))
    work = [model.n_computed_tokens([texts[index] for index in batch]) for batch in batches]
    probed = sorted(range(len(batches)), key=lambda place: -work[place])[:PROBED]
    few = [recording.readings[index] for place in probed for index in batches[place]]
    return replace(recording, readings=tuple(few)), sum(work[place] for place in probed), sum(work)


def _seconds(models: Sequence[LanguageModel], recording: Recording) -> float:
    """Time of a model once kernels are warm: the last of all, or the second run of a single one."""
    taken = 0.0
    for model in models if len(models) > 1 else [*models, *models]:
        with TemporaryDirectory() as home:
            start = time.perf_counter()
            recorded(model, recording, Path(home))
            taken = time.perf_counter() - start
    return taken


def _in_units(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} GB"


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
