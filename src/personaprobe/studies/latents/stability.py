"""Stability of latents over seeds: of the dictionary, and of the organism."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.all_rankings import compare_checked
from personaprobe.features.sae.diffing.ranking import Ranking, rank_latents
from personaprobe.features.sae.diffing.stability import (
    SAME_LATENT_COSINE,
    nearest_latents,
    ranking_agreement,
)
from personaprobe.features.sae.quality import MIN_EXPLAINED_VARIANCE
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.progress import Progress, silent
from personaprobe.questions.pairs import PairSet


def rank_on_trio(
    dictionary: Dictionary,
    trio: Trio[LanguageModel],
    questions: PairSet,
    ranking: str = "delta",
    *,
    seed: int = 0,
    floor: float = MIN_EXPLAINED_VARIANCE,
    progress: Progress = silent,
) -> Ranking:
    """One ranking of a dictionary's latents on one trio.

    Args:
        dictionary: of single activations.
        trio: loaded.
        questions: of discovery families.
        ranking: a key of :data:`personaprobe.features.sae.diffing.ranking.RANKINGS`.
        seed: of the permutations.
        floor: explained variance below which the dictionary is refused.
        progress: shows the work.

    Raises:
        FeatureError: no such ranking, a dictionary of another model, or one that explains too little.
    """
    comparison = compare_checked(dictionary, trio, questions, floor=floor, progress=progress)
    return rank_latents(comparison, ranking, seed)


def stability_over_dictionaries(
    dictionary: Dictionary, other: Dictionary, latents: Sequence[int], other_ranking: Ranking
) -> dict[str, Any]:
    """The nearest latents in another dictionary, and their places in its ranking, as plain data.

    Args:
        dictionary: of the latents.
        other: of the same site, trained with another seed or on other text.
        latents: to be found in it.
        other_ranking: of the other dictionary's latents on the same trio.

    Raises:
        FeatureError: the dictionaries belong to different sites or models.
    """
    nearest = nearest_latents(dictionary, other)
    return {
        "name": other.name,
        "mean_cosine": float(np.mean(nearest.cosines)),
        "with_twin": nearest.share_matched(range(dictionary.d_sae)),
        "first_with_twin": nearest.share_matched(latents),
        "least_cosine": SAME_LATENT_COSINE,
        "twins": {
            str(latent): {
                "latent": int(nearest.latents[latent]),
                "cosine": float(nearest.cosines[latent]),
                "rank": other_ranking.rank(int(nearest.latents[latent])),
            }
            for latent in latents
        },
    }


def stability_over_runs(
    name: str, ranking: Ranking, other_ranking: Ranking, latents: Sequence[int], n: int
) -> dict[str, Any]:
    """Agreement of a ranking with the same ranking on another training of the organism, as plain data.

    Args:
        name: of the other training.
        ranking: on the organism under study.
        other_ranking: of the same dictionary on the other training.
        latents: whose places there are listed.
        n: number of first latents that are compared.
    """
    ranks = {str(latent): other_ranking.rank(latent) for latent in latents}
    return {"name": name, **asdict(ranking_agreement(ranking, other_ranking, n)), "ranks": ranks}
