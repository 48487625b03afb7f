"""Stability: would another seed of the dictionary, or of the organism, have found the same latents?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from personaprobe.errors import FeatureError
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.ranking import Ranking

if TYPE_CHECKING:
    from jaxtyping import Float, Int

SAME_LATENT_COSINE = 0.7
"""Cosine of decoder rows from which latents of two dictionaries count as the same."""


@dataclass(frozen=True, eq=False)
class NearestLatents:
    """For each latent of a dictionary, the latent of another with the most similar decoder row.

    Attributes:
        latents: ``(d_sae)`` indices in the other dictionary.
        cosines: ``(d_sae)`` cosines of the two decoder rows.
    """

    latents: Int[np.ndarray, "d_sae"]
    cosines: Float[np.ndarray, "d_sae"]

    def share_matched(self, latents: Sequence[int], least: float = SAME_LATENT_COSINE) -> float:
        """Share of some latents whose nearest latent has a cosine of at least ``least``."""
        return float((self.cosines[list(latents)] >= least).mean())


def nearest_latents(dictionary: Dictionary, other: Dictionary) -> NearestLatents:
    """Match the latents of two dictionaries by their decoder rows.

    Raises:
        FeatureError: the dictionaries belong to different sites or models.
    """
    import torch

    if (dictionary.site, dictionary.d_model) != (other.site, other.d_model):
        raise FeatureError(
            f"{other.name} reads {other.site} of width {other.d_model}, and {dictionary.name} {dictionary.site} of "
            f"width {dictionary.d_model}: their latents cannot be the same"
        )
    rows, other_rows = (
        torch.nn.functional.normalize(each_dictionary.W_dec.float(), dim=-1)
        for each_dictionary in (dictionary, other)
    )
    cosines, latents = (rows @ other_rows.T).max(-1)
    return NearestLatents(latents.cpu().numpy(), cosines.cpu().numpy())


@dataclass(frozen=True)
class RankingAgreement:
    """Agreement of two rankings of the same latents.

    Attributes:
        shared: share of the first ``n`` of one ranking that are among the first ``n`` of the other.
        spearman: rank correlation over latents with finite scores other than 0 in both; nan for fewer than three.
        n: number of first latents that were compared.
    """

    shared: float
    spearman: float
    n: int


def ranking_agreement(ranking: Ranking, other: Ranking, n: int) -> RankingAgreement:
    """Compare two rankings of one dictionary's latents, such as of two trainings of an organism."""
    from scipy.stats import spearmanr

    first, second = ranking.scores, other.scores
    is_scored = np.isfinite(first) & np.isfinite(second) & (first != 0) & (second != 0)
    correlation = float("nan")
    if is_scored.sum() > 2:
        correlation = float(spearmanr(first[is_scored], second[is_scored]).statistic)
    return RankingAgreement(len(set(ranking.top(n)) & set(other.top(n))) / n, correlation, n)
