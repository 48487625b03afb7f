"""Recording: the same token ids run through every checkpoint, and their activations kept in aligned stores."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, overload

from personaprobe.compute.async_copy import copy_to_cpu_async, prefetch
from personaprobe.compute.out_of_memory import split_on_oom
from personaprobe.errors import DataError, FallbackWarning
from personaprobe.features.activations.recording_spec import (
    DTYPES,
    RecordingSpec,
    Texts,
    TokenizedText,
    identity,
)
from personaprobe.features.activations.store import ActivationStore
from personaprobe.features.activations.store_files import (
    DamagedStoreError,
    Keep,
    Manifest,
    Shard,
    atomic_folder,
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
from personaprobe.storage.paths import user_path

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

SHARD_BYTES = 256 * 2**20
"""Size of a shard: rows are held in memory until they fill one."""


@overload
def record(
    models: Trio[LanguageModel],
    texts: Texts,
    sites: str | Site | Sequence[str | Site],
    *,
    keep: Keep = ...,
    home: Path | None = ...,
    progress: Advance = ...,
) -> Trio[ActivationStore]: ...


@overload
def record(
    models: LanguageModel,
    texts: Texts,
    sites: str | Site | Sequence[str | Site],
    *,
    keep: Keep = ...,
    home: Path | None = ...,
    progress: Advance = ...,
) -> ActivationStore: ...


def record(
    models: Trio[LanguageModel] | LanguageModel,
    texts: Texts,
    sites: str | Site | Sequence[str | Site],
    *,
    keep: Keep = "means",
    home: Path | None = None,
    progress: Advance = no_advance,
) -> Trio[ActivationStore] | ActivationStore:
    """Run texts through a trio, or through one model, and keep the activations at some sites.

    A pair is two texts: its question with the careful and with the careless answer. A prefix that texts share is computed
    once where the backend can. The token ids are made once, so that the three stores of a trio align row
    for row. A store that exists already is opened, not made again.

    Args:
        models: a trio or a model, under any edits.
        texts: questions with answers, or plain documents, whose first token counts as the prompt and the
            rest as the response.
        sites: such as ``["16.resid_post"]``.
        keep: ``means``: two float32 rows a text, the last prompt token and the mean over response tokens (the
            token that closes the answer included); ``tokens``: a bfloat16 row for the last prompt token and
            for every response token; ``every``: a bfloat16 row for every token but a text's first.
        home: stores go to ``home/stores/digest``; the user's cache by default.
        progress: called with the number of tokens that each batch finished.

    Returns:
        One store a model.

    Raises:
        DataError: texts that cannot be read, NaN or infinite activations.
        SiteError: a site the model does not have.
        OutputError: ``home`` cannot be written.
    """
    if isinstance(models, LanguageModel):
        return record_spec(models, RecordingSpec.of(models, texts, sites, keep), home, progress)
    spec = RecordingSpec.of(models.base, texts, sites, keep)
    models.map(spec.refuse_unfit)
    return models.map(lambda model: record_spec(model, spec, home, progress))


def record_spec(
    model: LanguageModel,
    spec: RecordingSpec,
    home: Path | None = None,
    progress: Advance = no_advance,
) -> ActivationStore:
    """The store of a recording by one model; it is made unless it exists.

    A store that is damaged, or is that of another recording, is made anew with a warning.
    """
    digest = spec.digest(model)
    folder = (cache_home() if home is None else user_path(home)) / "stores" / digest
    present = _present_store(folder, digest)
    if present is not None:
        progress(spec.n_tokens)
        return present
    with atomic_folder(folder) as temporary, model.inference_session():
        shards = _write_shards(temporary, _shards(model, spec, progress))
        index = write_index(temporary, spec.index())
        replace(_manifest(model, spec, digest), index_sha256=index, shards=shards).write(temporary)
    return ActivationStore.open(folder)


def _present_store(folder: Path, digest: str) -> ActivationStore | None:
    """The store of a recording in its folder; None where there is none, or none that can be used."""
    with writing(folder):
        if not is_store(folder):
            return None
        try:
            return ActivationStore.open(folder, digest)
        except DamagedStoreError as error:
            warnings.warn(f"{error.problem}; it is recorded anew", FallbackWarning, stacklevel=4)
            shutil.rmtree(folder)
            return None


def _write_shards(folder: Path, shards: Iterable[dict[Site, Tensor]]) -> tuple[Shard, ...]:
    """Write shards, each in another thread while the next is computed; no more than two are held in memory."""
    with ThreadPoolExecutor(1) as writer:
        writing_shards = (
            (number, writer.submit(write_shard, folder, number, rows).result)
            for number, rows in enumerate(shards)
        )
        return tuple(shard for _, shard in prefetch(writing_shards))


def _manifest(model: LanguageModel, spec: RecordingSpec, digest: str) -> Manifest:
    return Manifest(
        digest=digest,
        checkpoint=str(model.checkpoint),
        edits=tuple(str(identity(edit)) for edit in model.edits),
        dtype=str(model.network.dtype).removeprefix("torch."),
        keep=spec.keep,
        sites=tuple(map(str, spec.sites)),
        d_model=model.d_model,
        n_texts=len(spec.texts),
        n_tokens=spec.n_tokens,
        n_rows=spec.n_rows,
        tokens_digest=spec.tokens_digest,
    )


def _shards(model: LanguageModel, spec: RecordingSpec, progress: Advance) -> Iterator[dict[Site, Tensor]]:
    """Rows by site, one shard after the other."""
    for texts in spec.shards(model.d_model, SHARD_BYTES):
        yield _shard(model, replace(spec, texts=texts), progress)


def _shard(model: LanguageModel, spec: RecordingSpec, progress: Advance) -> dict[Site, Tensor]:
    """Rows ``(row, d_model)`` by site, in the order of the texts; batches are ordered for speed."""
    import torch

    tokens = [text.tokens for text in spec.texts]
    ends = list(accumulate(len(text.rows(spec.keep)) for text in spec.texts))
    starts = [0, *ends[:-1]]
    dtype = getattr(torch, DTYPES[spec.keep])
    shard = {site: torch.empty(ends[-1], model.d_model, dtype=dtype) for site in spec.sites}
    batches = (
        (
            tuple(indices),
            _start_batch(model, replace(spec, texts=tuple(spec.texts[i] for i in indices))),
        )
        for indices in model.plan_batches(tokens, model.batch_tokens("recording"))
    )
    for indices, by_site in prefetch(batches):
        rows = torch.cat([torch.arange(starts[index], ends[index]) for index in indices])
        for site, values in by_site.items():
            shard[site][rows] = values
        progress(sum(len(tokens[index]) for index in indices))
    return shard


def _start_batch(model: LanguageModel, spec: RecordingSpec) -> Callable[[], dict[Site, Tensor]]:
    """Start one batch, halved where it does not fit; the function returned waits for its rows, text by text."""
    import torch

    def forward(texts: Sequence[TokenizedText]) -> list[dict[Site, Tensor]]:
        batch = pad([text.tokens for text in texts], model.network.pad_id)
        activations = model.activations(batch.to(model.network.device), spec.sites)
        return [{site: _select_rows(activations[site], batch, spec.keep) for site in spec.sites}]

    parts = split_on_oom(forward, spec.texts, "texts")
    rows = {site: torch.cat([part[site] for part in parts]) for site in spec.sites}
    wait_for_rows = copy_to_cpu_async(rows)
    wait_for_finite = copy_to_cpu_async({site: values.isfinite().all(-1) for site, values in rows.items()})

    def wait() -> dict[Site, Tensor]:
        for site, finite in wait_for_finite().items():
            if not bool(finite.all()):
                owners = [text for text in spec.texts for _ in text.rows(spec.keep)]
                raise _nonfinite(model, site, owners[int((~finite).nonzero()[0])])
        return wait_for_rows()

    return wait


def _select_rows(
    activations: Float[Tensor, "batch pos d_model"], batch: Batch, keep: Keep
) -> Float[Tensor, "row d_model"]:
    """The rows that a batch gives, text by text, the last prompt token first; padding is never among them.

    Args:
        activations: on any device.
        batch: on the CPU, so that the rows are chosen there without waiting for the device.
        keep: which rows.
    """
    import torch

    response = (batch.roles & Role.RESPONSE) != 0
    # in a plain document, where only the first token is no response, this is the first token
    last = torch.nn.functional.pad(response[:, 1:] & ~response[:, :-1], (0, 1))
    if keep == "every":
        return _select(activations, batch.mask & (batch.positions > 0)).bfloat16()
    if keep == "tokens":
        return _select(activations, last | response).bfloat16()
    # selected, not multiplied by zero: NaN at other positions cannot leak in
    mask = response.to(activations.device)
    total = torch.where(mask[..., None], activations.float(), 0.0).sum(1)
    mean = total / mask.sum(1, keepdim=True)
    return torch.stack([_select(activations, last).float(), mean], 1).flatten(0, 1)


def _select(activations: Tensor, mask: Bool[Tensor, "batch pos"]) -> Float[Tensor, "row d_model"]:
    positions = mask.flatten().nonzero().squeeze(1).to(activations.device)
    return activations.flatten(0, 1).index_select(0, positions)


def _nonfinite(model: LanguageModel, site: Site, text: TokenizedText) -> DataError:
    which = " ".join(part for part in (text.id, text.answer) if part)
    return DataError(
        f"activations of {model.checkpoint} at {site} are NaN or infinite in the text {which!r}, and maybe in others; "
        "the weights are damaged, an intervention is too strong, or float16 overflows: try --dtype bfloat16 or float32"
    )
