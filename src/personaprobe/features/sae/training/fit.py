"""From a corpus to trained dictionaries: one reading by the three checkpoints feeds them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from personaprobe.errors import DataError
from personaprobe.features.activations.corpus import Corpus
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.training.batches import Feed
from personaprobe.features.sae.training.rows import Layout, corpus_blocks
from personaprobe.features.sae.training.trainer import Progress, SAERecipe, Trainee, train
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.site import Site


@dataclass(frozen=True)
class Wanted:
    """A dictionary that is to be trained.

    Attributes:
        site: whose activations it reads.
        recipe: how it is trained.
    """

    site: Site
    recipe: SAERecipe


def fit(
    trio: Trio[LanguageModel],
    corpus: Corpus,
    wanted: Mapping[Path, Wanted],
    layout: Layout = "mixed",
    *,
    home: Path | None = None,
    read: Callable[[int], object] = lambda _: None,
    told: Callable[[Mapping[Path, Progress]], object] = lambda _: None,
) -> Iterator[tuple[Path, Dictionary]]:
    """Train dictionaries of several sites, sizes and sparsities on one reading of a corpus.

    All sites are recorded in one pass of each checkpoint; dictionaries of one site learn from the same batches, side by
    side. An interrupted call resumes: activations are kept in the cache, training states in the folders.

    Args:
        trio: which reads.
        corpus: what is read.
        wanted: by the folder each keeps its state and its metrics in.
        layout: what a row is.
        home: as in :func:`personaprobe.features.activations.recording.record`.
        read: told how many tokens were read, by all three together.
        told: told, every few steps, how each dictionary does.

    Yields:
        Each folder with its dictionary, named after the folder, its card saying how it was made.

    Raises:
        DataError: nothing wanted, or recipes of different seeds, which would want different batches.
    """
    seeds = {each.recipe.seed for each in wanted.values()}
    if len(seeds) != 1:
        raise DataError(f"dictionaries that learn side by side share one seed; these have {sorted(seeds)}")
    [seed] = seeds
    sites = sorted({each.site for each in wanted.values()})
    for site, blocks in corpus_blocks(trio, corpus, sites, layout, home=home, progress=read).items():
        feed = Feed(blocks, seed=seed)
        sample, device = feed.sample(), trio.base.network.device
        trainees = {
            folder: Trainee(each.recipe, sample, device)
            for folder, each in wanted.items()
            if each.site == site
        }
        for made in train(feed, trainees):
            told(made)
        for folder, trainee in trainees.items():
            yield folder, _finished(trainee, site, folder.name, _card(trio, corpus, layout))


def _finished(trainee: Trainee, site: Site, name: str, card: Mapping[str, object]) -> Dictionary:
    learned = trainee.autoencoder.dictionary(trainee.recipe.architecture, site, name)
    return replace(learned.to("cpu"), card={**card, "recipe": trainee.recipe.describe()})


def _card(trio: Trio[LanguageModel], corpus: Corpus, layout: Layout) -> dict[str, object]:
    return {
        "model": trio.base.checkpoint.published,
        "checkpoints": {role: model.checkpoint.digest for role, model in trio.items()},
        "layout": layout,
        "corpus": corpus.describe(),
    }
