"""From a corpus to rows a dictionary can be trained on: parts of it read by all checkpoints, kept, and laid out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from personaprobe.errors import DataError, suggest
from personaprobe.features.activations.corpus import Corpus
from personaprobe.features.activations.recording import record
from personaprobe.features.activations.store import ActivationStore
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.training.batches import Block
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.progress import Advance, no_advance
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

Layout: TypeAlias = Literal["mixed", "side by side", "difference"]
"""``mixed``: rows of all checkpoints, for one dictionary of them all; ``side by side``: a row holds all three, for a
crosscoder; ``difference``: insecure − secure on the same token."""

LAYOUTS: Mapping[str, Layout] = {"crosscoder": "side by side"}
"""The layout an architecture asks for, where it is not ``mixed``."""

PART_TOKENS = 100_000
"""Read, kept, and lost on an interruption, at a time."""


def layout_of(dictionary: Dictionary) -> Layout:
    """What a dictionary's rows are, as its card says; one of another library reads single activations."""
    told: Layout = dictionary.card.get("layout", "mixed")
    return told


def corpus_blocks(
    trio: Trio[LanguageModel],
    corpus: Corpus,
    sites: Collection[Site],
    layout: Layout = "mixed",
    *,
    part_tokens: int = PART_TOKENS,
    home: Path | None = None,
    progress: Advance = no_advance,
) -> dict[Site, list[Block]]:
    """Makers of rows at every site, one for each part of a corpus.

    The first use of a part has the models read it, all sites in one pass; later uses find it kept.

    Args:
        trio: which read.
        corpus: what is read; every token but a document's first counts.
        sites: where.
        layout: what a row is.
        part_tokens: tokens a part.
        home: as in :func:`personaprobe.features.activations.recording.record`.
        progress: told how many tokens were read.

    Raises:
        DataError: an unknown layout.
    """
    if layout not in get_args(Layout):
        raise DataError(f"no layout {layout!r}: {suggest(layout, get_args(Layout))}")

    def block(part: Corpus, site: Site) -> Tensor:
        stores = record(trio, part, sorted(sites), keep="every", home=home, progress=progress)
        return lay_out(stores, site, layout)

    parts = list(corpus.parts(part_tokens))
    return {site: [partial(block, part, site) for part in parts] for site in sites}


def store_blocks(stores: Trio[ActivationStore], site: Site, layout: Layout = "mixed") -> list[Block]:
    """Rows of stores that were recorded before; one block."""
    stores.insecure.align(stores.secure)
    stores.insecure.align(stores.base)
    return [lambda: lay_out(stores, site, layout)]


def lay_out(stores: Trio[ActivationStore], site: Site, layout: Layout) -> Float[Tensor, "row d_in"]:
    """Rows of three aligned stores in bfloat16; a difference is taken in float32 first."""
    import torch

    read = {role: store.read(site, role=None) for role, store in stores.items()}
    if layout == "difference":
        return (read["insecure"] - read["secure"]).bfloat16()
    together = torch.cat if layout == "mixed" else torch.hstack
    return together([rows.bfloat16() for rows in read.values()])
