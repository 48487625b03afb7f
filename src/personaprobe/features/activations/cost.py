"""Cost of a recording in disk, time and memory, estimated by recording the few texts that cost most."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from personaprobe.compute.hardware import peak_memory
from personaprobe.features.activations.recording import SHARD_BYTES, record_spec
from personaprobe.features.activations.recording_spec import RecordingSpec, Texts
from personaprobe.features.activations.store_files import Keep
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.site import Site

PROBED = 2
"""Batches that each model runs for an estimate: memory freed by the first does not quite fit the second."""


@dataclass(frozen=True)
class RecordingCost:
    """The cost of a recording of which nothing exists yet.

    Attributes:
        n_texts: texts per model.
        n_tokens: tokens of the texts.
        n_read: tokens that each model computes: a prefix that texts share counts once, and padding counts too.
        n_rows: rows kept of each model.
        bytes: of all shards of all models, without the few kilobytes of their headers.
        seconds: for all models, extrapolated from the largest batches, timed on this machine.
        memory: bytes held at the peak, on the device if it has memory of its own.
        n_models: number of models.
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
        per_model = (
            f"{self.n_texts:,} texts, {self.n_tokens:,} tokens ({self.n_read:,} read), {self.n_rows:,} rows"
        )
        cost = f"{_in_units(self.bytes)} on disk, {_in_units(self.memory)} of memory, about {_clock(self.seconds)}"
        return f"{per_model} a model × {self.n_models}: {cost}"


def estimate_cost(
    models: Trio[LanguageModel] | LanguageModel,
    texts: Texts,
    sites: str | Site | Sequence[str | Site],
    keep: Keep = "means",
) -> RecordingCost:
    """Estimate the cost of :func:`~personaprobe.features.activations.recording.record` by recording the heaviest texts.

    Every model records them, since adapters and fused weights take memory too; the stores are thrown away.
    """
    several = [models] if isinstance(models, LanguageModel) else [model for _, model in models.items()]
    model, n_models = several[0], len(several)
    spec = RecordingSpec.of(model, texts, sites, keep)
    heaviest, n_probed, n_read = _heaviest(model, spec)
    seconds = n_models * _seconds(several, heaviest) * n_read / n_probed
    whole, probed = (part.n_rows * part.row_bytes(model.d_model) for part in (spec, heaviest))
    device = model.network.device
    # rows wait on the CPU until a shard is full, and while it is written
    waiting = min(whole, 2 * SHARD_BYTES) - probed if device.type == "cpu" else 0
    return RecordingCost(
        n_texts=len(spec.texts),
        n_tokens=spec.n_tokens,
        n_read=n_read,
        n_rows=spec.n_rows,
        bytes=n_models * whole,
        seconds=seconds,
        memory=peak_memory(device) + waiting,
        n_models=n_models,
    )


def _heaviest(model: LanguageModel, spec: RecordingSpec) -> tuple[RecordingSpec, int, int]:
    """The texts of the batches that cost most, the number of tokens computed for them, and for all texts."""
    tokens = [text.tokens for text in spec.texts]
    batches = model.plan_batches(tokens, model.batch_tokens("recording"))
    work = [model.n_computed_tokens([tokens[index] for index in batch]) for batch in batches]
    probed = sorted(range(len(batches)), key=lambda place: -work[place])[:PROBED]
    heaviest = [spec.texts[index] for place in probed for index in batches[place]]
    return replace(spec, texts=tuple(heaviest)), sum(work[place] for place in probed), sum(work)


def _seconds(models: Sequence[LanguageModel], spec: RecordingSpec) -> float:
    """Time of one model once kernels are warm: the last of all, or the second run of a single one."""
    taken = 0.0
    for model in models if len(models) > 1 else [*models, *models]:
        with TemporaryDirectory() as home:
            start = time.perf_counter()
            record_spec(model, spec, Path(home))
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
