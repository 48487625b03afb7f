"""Recording: the same token ids through every checkpoint, and what passes a site kept in aligned stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from personaprobe.compute.async_copy import copy_to_cpu_async, prefetch
from personaprobe.compute.out_of_memory import split_on_oom
from personaprobe.errors import DataError
from personaprobe.features.activations.recording_spec import DTYPES, Reading, Recording, Texts, identity
from personaprobe.features.activations.store import ActivationStore
from personaprobe.features.activations.store_files import (
    Keep,
    Manifest,
    Shard,
    appearing,
    is_store,
    write_index,
    write_shard,
)
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Batch, Role, pad
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.progress import Advance, no_advance
from personaprobe.site import Site
from personaprobe.storage.files import cache_home, writing

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

SHARD_BYTES = 256 * 2**20
"""The most that is held in memory before it goes to disk."""


def record(
    trio: Trio[LanguageModel],
    texts: Texts,
    sites: str | Site | Sequence[str | Site],
    *,
    keep: Keep = "means",
    home: Path | None = None,
    progress: Advance = no_advance,
) -> Trio[ActivationStore]:
    """Read the same texts with all three models and keep what passes the sites.

    A pair is two texts, its question with the careful and with the careless answer; what texts begin with in
    common is computed once where the backend can. The token ids are made once, so that the three stores align row
    for row. A store that is already there is opened, not made again.

    Args:
        trio: the models, under any edits.
        texts: questions with answers, or plain documents, whose first token counts as the prompt and the
            rest as the response.
        sites: such as ``["16.resid_post"]``.
        keep: ``means``: two float32 rows a text, the last prompt token and the mean over response tokens (the
            token that closes the answer included); ``tokens``: a bfloat16 row for the last prompt token and
            for every response token; ``every``: a bfloat16 row for every token but a text's first.
        home: stores go to ``home/stores/digest``; the user's cache by default.
        progress: told how many tokens each batch finished.

    Raises:
        DataError: texts that cannot be read, NaN or infinite activations.
        SiteError: a site the model does not have.
        OutputError: ``home`` cannot be written.
    """
    recording = Recording.of(trio.base, texts, sites, keep)
    trio.map(recording.refuse_unfit)
    return trio.map(lambda model: recorded(model, recording, home, progress))


def record_one(
    model: LanguageModel,
    texts: Texts,
    sites: str | Site | Sequence[str | Site],
    *,
    keep: Keep = "means",
    home: Path | None = None,
    progress: Advance = no_advance,
) -> ActivationStore:
    """Read texts with one model; :func:`record` for the arguments."""
    return recorded(model, Recording.of(model, texts, sites, keep), home, progress)


def recorded(
    model: LanguageModel,
    recording: Recording,
    home: Path | None = None,
    progress: Advance = no_advance,
) -> ActivationStore:
    """The store of a recording by one model, made unless it is there."""
    digest = recording.digest(model)
    folder = (cache_home() if home is None else Path(home).expanduser()) / "stores" / digest
    with writing(folder):
        present = is_store(folder)
    if present:
        progress(recording.n_tokens)
        return ActivationStore.open(folder)
    with appearing(folder) as temporary, model.inference_session():
        shards = _written(temporary, _pieces(model, recording, progress))
        index = write_index(temporary, recording.index())
        replace(_manifest(model, recording, digest), index_sha256=index, shards=shards).write(temporary)
    return ActivationStore.open(folder)


def _written(folder: Path, pieces: Iterable[dict[Site, Tensor]]) -> tuple[Shard, ...]:
    """Shards, each written by another thread while the next is read; no more than two are held."""
    with ThreadPoolExecutor(1) as writer:
        begun = (
            (number, writer.submit(write_shard, folder, number, rows).result)
            for number, rows in enumerate(pieces)
        )
        return tuple(shard for _, shard in prefetch(begun))


def _manifest(model: LanguageModel, recording: Recording, digest: str) -> Manifest:
    return Manifest(
        digest=digest,
        checkpoint=str(model.checkpoint),
        edits=tuple(str(identity(edit)) for edit in model.edits),
        dtype=str(model.network.dtype).removeprefix("torch."),
        keep=recording.keep,
        sites=tuple(map(str, recording.sites)),
        d_model=model.d_model,
        n_texts=len(recording.readings),
        n_tokens=recording.n_tokens,
        n_rows=recording.n_rows,
        tokens_digest=recording.tokens_digest,
    )


def _pieces(model: LanguageModel, recording: Recording, progress: Advance) -> Iterator[dict[Site, Tensor]]:
    """The rows of one shard after the other."""
    for readings in recording.pieces(model.d_model, SHARD_BYTES):
        yield _piece(model, replace(recording, readings=readings), progress)


def _piece(model: LanguageModel, recording: Recording, progress: Advance) -> dict[Site, Tensor]:
    """Rows ``(row, d_model)`` by site, in the order of the texts, though batches go as they are read fastest."""
    import torch

    texts = [reading.tokens for reading in recording.readings]
    ends = list(accumulate(len(reading.rows(recording.keep)) for reading in recording.readings))
    starts = [0, *ends[:-1]]
    dtype = getattr(torch, DTYPES[recording.keep])
    piece = {site: torch.empty(ends[-1], model.d_model, dtype=dtype) for site in recording.sites}
    begun = (
        (
            tuple(indices),
            _reading(model, replace(recording, readings=tuple(recording.readings[i] for i in indices))),
        )
        for indices in model.plan_batches(texts, model.batch_tokens("recording"))
    )
    for indices, read in prefetch(begun):
        rows = torch.cat([torch.arange(starts[index], ends[index]) for index in indices])
        for site, values in read.items():
            piece[site][rows] = values
        progress(sum(len(texts[index]) for index in indices))
    return piece


def _reading(model: LanguageModel, recording: Recording) -> Callable[[], dict[Site, Tensor]]:
    """Begin to read one batch, halved where it does not fit; returns what waits for its rows, text by text."""
    import torch

    def read(few: Sequence[Reading]) -> list[dict[Site, Tensor]]:
        batch = pad([reading.tokens for reading in few], model.network.pad_id)
        seen = model.activations(batch.to(model.network.device), recording.sites)
        return [{site: _kept(seen[site], batch, recording.keep) for site in recording.sites}]

    parts = split_on_oom(read, recording.readings, "texts")
    rows = {site: torch.cat([part[site] for part in parts]) for site in recording.sites}
    rows_landed = copy_to_cpu_async(rows)
    finite_landed = copy_to_cpu_async({site: values.isfinite().all(-1) for site, values in rows.items()})

    def landed() -> dict[Site, Tensor]:
        for site, finite in finite_landed().items():
            if not bool(finite.all()):
                owners = [reading for reading in recording.readings for _ in reading.rows(recording.keep)]
                raise _nonfinite(model, site, owners[int((~finite).nonzero()[0])])
        return rows_landed()

    return landed


def _kept(
    activations: Float[Tensor, "batch pos d_model"], batch: Batch, keep: Keep
) -> Float[Tensor, "row d_model"]:
    """The rows a batch gives, text by text, the last prompt token first; padding is never among them.

    Args:
        activations: wherever they were computed.
        batch: on the CPU, so that which rows they are is known there, and no device is waited for.
        keep: which rows.
    """
    import torch

    response = (batch.roles & Role.RESPONSE) != 0
    # of a plain document, whose first token alone is no response, that is the first
    last = torch.nn.functional.pad(response[:, 1:] & ~response[:, :-1], (0, 1))
    if keep == "every":
        return _at(activations, batch.mask & (batch.positions > 0)).bfloat16()
    if keep == "tokens":
        return _at(activations, last | response).bfloat16()
    # selected, not multiplied by zero: whatever stands at other positions cannot leak in
    there = response.to(activations.device)
    total = torch.where(there[..., None], activations.float(), 0.0).sum(1)
    mean = total / there.sum(1, keepdim=True)
    return torch.stack([_at(activations, last).float(), mean], 1).flatten(0, 1)


def _at(activations: Tensor, mask: Bool[Tensor, "batch pos"]) -> Float[Tensor, "row d_model"]:
    places = mask.flatten().nonzero().squeeze(1).to(activations.device)
    return activations.flatten(0, 1).index_select(0, places)


def _nonfinite(model: LanguageModel, site: Site, reading: Reading) -> DataError:
    which = " ".join(part for part in (reading.id, reading.answer) if part)
    return DataError(
        f"activations of {model.checkpoint} at {site} are NaN or infinite in the text {which!r}, and maybe in others; "
        "the weights are damaged, an intervention is too strong, or float16 overflows: try --dtype bfloat16 or float32"
    )
