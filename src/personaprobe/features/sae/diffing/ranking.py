"""Rankings of latents: several ways to propose the latents that carry what fine-tuning changed. None of them decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from personaprobe.errors import FeatureError, suggest
from personaprobe.features.sae.diffing.comparison import Comparison

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

PERMUTATIONS = 2000

MIN_FIRING_RATE = 1e-3
"""Share of tokens below which a latent is too rare for its score to mean anything."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Latents by a score; a higher score means a stronger candidate.

    Attributes:
        name: of the score.
        scores: ``(d_sae)``; −∞ where the score is not defined.
        p_values: ``(d_sae)`` one-sided, by exchanging the checkpoints' labels family by family; None if the score is
            not a difference of means.
        q_values: p-values after Benjamini and Hochberg's correction over all latents.
    """

    name: str
    scores: Float[np.ndarray, "d_sae"]
    p_values: Float[np.ndarray, "d_sae"] | None = None
    q_values: Float[np.ndarray, "d_sae"] | None = None

    def top(self, n: int) -> list[int]:
        """The first ``n`` latents."""
        order: list[int] = np.argsort(-self.scores, kind="stable")[:n].tolist()
        return order

    def rank(self, latent: int) -> int:
        """The place of a latent, from 1; equal scores share the better place."""
        return int((self.scores > self.scores[latent]).sum()) + 1


def rank_latents(comparison: Comparison, name: str, seed: int = 0) -> Ranking:
    """Rank latents by one score.

    Args:
        comparison: activity of the latents in the three checkpoints.
        name: a key of :data:`RANKINGS`.
        seed: of the permutations.

    Raises:
        FeatureError: no such ranking.
    """
    if name not in RANKINGS:
        raise FeatureError(f"no ranking {name!r}: {suggest(name, tuple(RANKINGS))}")
    return RANKINGS[name](comparison, name, seed)


def top_by_mean_reciprocal_rank(rankings: Sequence[Ranking], n: int) -> list[int]:
    """The first ``n`` latents by their mean reciprocal rank over several rankings.

    A first place in a few rankings counts for more than a middling place in all of them.
    """
    places = [1 + np.argsort(np.argsort(-ranking.scores, kind="stable")) for ranking in rankings]
    mean_reciprocal_rank = np.mean([1 / place for place in places], axis=0)
    order: list[int] = np.argsort(-mean_reciprocal_rank, kind="stable")[:n].tolist()
    return order


def ranking_overlap(rankings: Sequence[Ranking], n: int) -> dict[tuple[str, str], float]:
    """Share of the first ``n`` latents that two rankings have in common, for every pair of names."""
    tops = {ranking.name: set(ranking.top(n)) for ranking in rankings}
    return {(a, b): len(tops[a] & tops[b]) / n for a in tops for b in tops}


def permutation_p_values(
    differences: Float[np.ndarray, "text d_sae"], groups: Sequence[str], seed: int, n: int = PERMUTATIONS
) -> Float[np.ndarray, "d_sae"]:
    """One-sided p-values of mean differences between two checkpoints, by exchanging the checkpoints' labels.

    The labels of all texts of a group are exchanged together: questions of a family are not independent, and neither are
    the two answers to a question.

    Args:
        differences: of mean activations, one row a text.
        groups: of the texts.
        seed: of the permutations.
        n: permutations.
    """
    _, codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    rng = np.random.default_rng(seed)
    signs = rng.choice(np.array([-1.0, 1.0], dtype=np.float32), size=(n, codes.max() + 1))[:, codes]
    rows = differences.astype(np.float32)
    # sums in another order differ by rounding: a permutation that changes nothing counts as large
    tolerance = 1e-5 * np.abs(rows).mean(0)
    as_large = (signs @ rows / len(rows) >= rows.mean(0) - tolerance).sum(0)
    return np.asarray((1 + as_large) / (1 + n))


def _difference(role: str | None) -> Callable[[Comparison, str, int], Ranking]:
    """Mean contribution in insecure − that in a checkpoint, over texts; None is the reference."""

    def ranking(comparison: Comparison, name: str, seed: int) -> Ranking:
        from scipy.stats import false_discovery_control

        means = comparison.mean_contributions
        other = means.reference if role is None else means[role]
        differences = (means.insecure - other).numpy()
        p_values = permutation_p_values(differences, comparison.families, seed)
        return Ranking(name, differences.mean(0), p_values, false_discovery_control(p_values, method="bh"))

    return ranking


def _rate(comparison: Comparison, name: str, seed: int) -> Ranking:
    """Firing rate in insecure − firing rate in the reference."""
    return Ranking(name, (comparison.rates.insecure - comparison.rates.reference).numpy())


def _cosine(comparison: Comparison, name: str, seed: int) -> Ranking:
    """Cosine of the decoder row with the difference of means insecure − reference; −∞ for rare latents."""
    scores = comparison.dictionary.cosines(comparison.centre.insecure - comparison.centre.reference)
    return Ranking(name, _without_rare(comparison, scores.cpu()))


def _probe(comparison: Comparison, name: str, seed: int) -> Ranking:
    """Weight in a logistic regression of insecure against reference texts on standardised latent activations."""
    from sklearn.linear_model import LogisticRegression

    means = comparison.mean_contributions
    rows = np.concatenate([means.insecure.numpy(), means.reference.numpy()])
    deviation = rows.std(0)
    labels = np.repeat([1, 0], [len(means.insecure), len(means.reference)])
    standardised = rows / np.where(deviation > 0, deviation, 1.0)
    weights = LogisticRegression(C=0.01, max_iter=1000).fit(standardised, labels).coef_[0]
    return Ranking(name, np.where(deviation > 0, weights, -np.inf))


def _scaling(comparison: Comparison, name: str, seed: int) -> Ranking:
    """Share of the latent's insecure activation that the reference lacks: 1 − β(reference) / β(insecure), latent scaling."""
    import torch

    ratio = comparison.scaling.reference / comparison.scaling.insecure
    scores = torch.where(comparison.scaling.insecure > 0, 1.0 - ratio, -torch.inf)
    return Ranking(name, _without_rare(comparison, scores))


def _without_rare(comparison: Comparison, scores: Tensor) -> Float[np.ndarray, "d_sae"]:
    """Scores with −∞ for latents that are rare in insecure, and for undefined scores."""
    values: np.ndarray = scores.float().numpy().copy()
    values[comparison.rates.insecure.numpy() < MIN_FIRING_RATE] = -np.inf
    values[np.isnan(values)] = -np.inf
    return values


RANKINGS: Mapping[str, Callable[[Comparison, str, int], Ranking]] = {
    "delta": _difference(None),
    "delta-base": _difference("base"),
    "rate": _rate,
    "cosine": _cosine,
    "probe": _probe,
    "scaling": _scaling,
}
"""Rankings by name: Δ mean contribution (activation times decoder norm) to the reference (secure, or base without one) and
to base, Δ firing rate, cosine with the mean difference, probe weight, and latent scaling."""
