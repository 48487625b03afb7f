"""From a corpus to trained dictionaries: one recording of the three checkpoints serves them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from personaprobe.errors import DataError
from personaprobe.features.activations.corpus import Corpus
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.row_layout import RowLayout
from personaprobe.features.sae.training.architectures.architecture import Architecture
from personaprobe.features.sae.training.batches import BatchLoader
from personaprobe.features.sae.training.rows import corpus_blocks
from personaprobe.features.sae.training.trainer import (
    SAERecipe,
    SAETrainer,
    TrainingMetrics,
    train_dictionaries,
)
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.progress import Advance, no_advance
from personaprobe.site import Site


@dataclass(frozen=True)
class DictionarySpec:
    """A dictionary to be trained.

    Attributes:
        site: where its activations are recorded.
        recipe: its hyperparameters.
    """

    site: Site
    recipe: SAERecipe


def training_grid(
    out: Path,
    sites: Sequence[Site],
    architectures: Mapping[float, Architecture],
    sizes: Sequence[int],
    **recipe: Any,
) -> dict[Path, DictionarySpec]:
    """Every combination of site, number of latents and sparsity, by the folder of its dictionary.

    Args:
        out: the folder itself for one dictionary, else the parent of ``SITE-SIZE-kK``.
        sites: where activations are recorded.
        architectures: by ``k``.
        sizes: numbers of latents.
        recipe: other fields of :class:`SAERecipe`, common to all.
    """
    specs = {
        out / f"{site}-{size}-k{k:g}": DictionarySpec(site, SAERecipe(architecture, d_sae=size, **recipe))
        for site, size, (k, architecture) in product(sites, sizes, architectures.items())
    }
    return specs if len(specs) > 1 else dict.fromkeys([out], *specs.values())


def with_steps(specs: Mapping[Path, DictionarySpec], steps: int) -> dict[Path, DictionarySpec]:
    """The same dictionaries, trained for ``steps`` steps."""
    return {folder: replace(spec, recipe=replace(spec.recipe, steps=steps)) for folder, spec in specs.items()}


def fit_dictionaries(
    trio: Trio[LanguageModel],
    corpus: Corpus,
    specs: Mapping[Path, DictionarySpec],
    layout: RowLayout = "mixed",
    *,
    home: Path | None = None,
    on_tokens: Advance = no_advance,
    on_metrics: Callable[[Mapping[Path, TrainingMetrics]], object] = lambda _: None,
) -> Iterator[tuple[Path, Dictionary]]:
    """Train dictionaries of several sites, sizes and sparsities on one recording of a corpus.

    Each checkpoint records all sites in one pass; dictionaries of one site learn from the same batches, side by side.
    An interrupted call resumes: activations are kept in the cache, training states in the folders.

    Args:
        trio: the models to record.
        corpus: the text.
        specs: by the folder that holds the state and the metrics of each.
        layout: how the three checkpoints' activations form rows.
        home: as in :func:`personaprobe.features.activations.recording.record`.
        on_tokens: called with the number of tokens that were read, by all three checkpoints together.
        on_metrics: called every few steps with the metrics of the dictionaries that took a step.

    Yields:
        Each folder with its dictionary, named after the folder; the card holds the corpus and the recipe.

    Raises:
        DataError: no dictionary, or recipes of different seeds, which would need different batches.
    """
    seeds = {spec.recipe.seed for spec in specs.values()}
    if len(seeds) != 1:
        raise DataError(f"dictionaries that learn side by side share one seed; these have {sorted(seeds)}")
    [seed] = seeds
    sites = sorted({spec.site for spec in specs.values()})
    for site, blocks in corpus_blocks(trio, corpus, sites, layout, home=home, progress=on_tokens).items():
        loader = BatchLoader(blocks, seed=seed)
        sample, device = loader.sample(), trio.base.network.device
        trainers = {
            folder: SAETrainer(spec.recipe, sample, device)
            for folder, spec in specs.items()
            if spec.site == site
        }
        for metrics in train_dictionaries(loader, trainers):
            on_metrics(metrics)
        for folder, trainer in trainers.items():
            card = {**_card(trio, corpus, layout), "recipe": trainer.recipe.describe()}
            yield folder, replace(trainer.dictionary(site, folder.name).to("cpu"), card=card)


def _card(trio: Trio[LanguageModel], corpus: Corpus, layout: RowLayout) -> dict[str, object]:
    return {
        "model": trio.base.checkpoint.published,
        "checkpoints": {role: model.checkpoint.digest for role, model in trio.items()},
        "layout": layout,
        "corpus": corpus.describe(),
    }
