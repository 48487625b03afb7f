"""Training rows from a corpus: parts of it are recorded in all three checkpoints, cached, and arranged in a layout."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from personaprobe.errors import DataError, suggest
from personaprobe.features.activations.corpus import Corpus
from personaprobe.features.activations.recording import record
from personaprobe.features.activations.store import ActivationStore
from personaprobe.features.sae.row_layout import RowLayout
from personaprobe.features.sae.training.batches import Block
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.progress import Advance, no_advance
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

PART_TOKENS = 100_000
"""Tokens of a part: recorded and cached together, and lost together by an interruption."""


def corpus_blocks(
    trio: Trio[LanguageModel],
    corpus: Corpus,
    sites: Collection[Site],
    layout: RowLayout = "mixed",
    *,
    part_tokens: int = PART_TOKENS,
    home: Path | None = None,
    progress: Advance = no_advance,
) -> dict[Site, list[Block]]:
    """Loaders of training rows at every site, one for each part of a corpus.

    The first call of a loader records its part at all sites in one pass; later calls read the cache.

    Args:
        trio: the models to record.
        corpus: the text; every token but a document's first becomes a row.
        sites: where activations are recorded.
        layout: how the three checkpoints' activations form rows.
        part_tokens: tokens of a part.
        home: as in :func:`personaprobe.features.activations.recording.record`.
        progress: called with the number of tokens that were read.

    Raises:
        DataError: an unknown layout.
        CheckpointError: a layout of all three checkpoints, of a trio without secure.
    """
    if layout not in get_args(RowLayout):
        raise DataError(f"no layout {layout!r}: {suggest(layout, get_args(RowLayout))}")

    if layout != "mixed":
        trio["secure"]  # the rows of these layouts hold all three

    def block(part: Corpus, site: Site) -> Tensor:
        stores = record(trio, part, sorted(sites), keep="every", home=home, progress=progress)
        return arrange_rows(stores, site, layout)

    parts = list(corpus.parts(part_tokens))
    return {site: [partial(block, part, site) for part in parts] for site in sites}


def arrange_rows(stores: Trio[ActivationStore], site: Site, layout: RowLayout) -> Float[Tensor, "row d_in"]:
    """Rows of three aligned stores in bfloat16; differences are computed in float32 first."""
    import torch

    activations = {role: store.read(site, role=None) for role, store in stores.items()}
    if layout == "difference":
        return (activations["insecure"] - stores["secure"].read(site, role=None)).bfloat16()
    join = torch.cat if layout == "mixed" else torch.hstack
    return join([rows.bfloat16() for rows in activations.values()])
