"""Would another seed have found the same? Of the dictionary, and of the organism."""

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

TWIN = 0.7
"""Cosine of decoder rows from which two latents count as the same."""


@dataclass(frozen=True, eq=False)
class Twins:
    """For each latent of a dictionary the most alike one of another.

    Attributes:
        latents: ``(d_sae)`` of the other.
        cosines: ``(d_sae)`` of the decoder rows.
    """

    latents: Int[np.ndarray, "d_sae"]
    cosines: Float[np.ndarray, "d_sae"]

    def share(self, latents: Sequence[int], least: float = TWIN) -> float:
        """Share of some latents that have a twin."""
        return float((self.cosines[list(latents)] >= least).mean())


def twins(dictionary: Dictionary, other: Dictionary) -> Twins:
    """Match latents of two dictionaries by their decoder rows.

    Raises:
        FeatureError: dictionaries of other sites or models have nothing to match.
    """
    import torch

    if (dictionary.site, dictionary.d_model) != (other.site, other.d_model):
        raise FeatureError(
            f"{other.name} reads {other.site} of width {other.d_model}, and {dictionary.name} {dictionary.site} of "
            f"width {dictionary.d_model}: their latents cannot be the same"
        )
    own, theirs = (torch.nn.functional.normalize(each.W_dec.float(), dim=-1) for each in (dictionary, other))
    cosines, latents = (own @ theirs.T).max(-1)
    return Twins(latents.cpu().numpy(), cosines.cpu().numpy())


@dataclass(frozen=True)
class Agreement:
    """How far two rankings of the same latents agree.

    Attributes:
        shared: share of the first ``n`` of one that are among the first ``n`` of the other.
        spearman: rank correlation over latents that both score above or below 0; nan for fewer than three.
        n: how many firsts were compared.
    """

    shared: float
    spearman: float
    n: int


def agreement(ranking: Ranking, other: Ranking, n: int) -> Agreement:
    """Compare two rankings of one dictionary's latents, such as of two organisms."""
    from scipy.stats import spearmanr

    told = (
        np.isfinite(ranking.scores) & np.isfinite(other.scores) & (ranking.scores != 0) & (other.scores != 0)
    )
    correlation = (
        float(spearmanr(ranking.scores[told], other.scores[told]).statistic)
        if told.sum() > 2
        else float("nan")
    )
    return Agreement(len(set(ranking.top(n)) & set(other.top(n))) / n, correlation, n)
