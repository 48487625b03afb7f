"""Rankings of latents: several ways to propose which of them carry what fine-tuning changed. None of them decides."""

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
RARE = 1e-3
"""Share of tokens below which a latent's firing shows nothing."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Latents by a score; higher means a stronger candidate.

    Attributes:
        name: of the score.
        scores: ``(d_sae)``; −∞ where the score is not defined.
        p_values: ``(d_sae)`` one-sided, by exchanging the checkpoints' labels question by question; None where the
            score is no difference of means.
        q_values: the same after Benjamini and Hochberg's correction over all latents.
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
        """A latent's place, from 1."""
        return int((self.scores > self.scores[latent]).sum()) + 1


def rank(found: Comparison, name: str, seed: int = 0) -> Ranking:
    """Rank latents by one score.

    Args:
        found: what latents do in the three checkpoints.
        name: a key of :data:`RANKINGS`.
        seed: of the permutations.

    Raises:
        FeatureError: no such ranking.
    """
    if name not in RANKINGS:
        raise FeatureError(f"no ranking {name!r}: {suggest(name, tuple(RANKINGS))}")
    return RANKINGS[name](found, name, seed)


def overlap(rankings: Sequence[Ranking], n: int) -> dict[tuple[str, str], float]:
    """Share of their first ``n`` latents that each two rankings have in common."""
    tops = {ranking.name: set(ranking.top(n)) for ranking in rankings}
    return {(a, b): len(tops[a] & tops[b]) / n for a in tops for b in tops}


def permutation_p_values(
    differences: Float[np.ndarray, "text d_sae"], ids: Sequence[str], seed: int, n: int = PERMUTATIONS
) -> Float[np.ndarray, "d_sae"]:
    """How often the mean difference would be as large if the two checkpoints' labels meant nothing.

    The labels of all texts of a question are exchanged together, since its texts are not independent.
    """
    _, questions = np.unique(np.asarray(ids, dtype=str), return_inverse=True)
    rng = np.random.default_rng(seed)
    signs = rng.choice(np.array([-1.0, 1.0], dtype=np.float32), size=(n, questions.max() + 1))[:, questions]
    observed = differences.mean(0)
    as_large = (signs @ differences.astype(np.float32) / len(differences) >= observed - 1e-12).sum(0)
    return np.asarray((1 + as_large) / (1 + n))


def _difference(reference: str) -> Callable[[Comparison, str, int], Ranking]:
    """Insecure − reference, mean activation over texts."""

    def ranking(found: Comparison, name: str, seed: int) -> Ranking:
        from scipy.stats import false_discovery_control

        differences = (found.means.insecure - found.means[reference]).numpy()
        p_values = permutation_p_values(differences, found.ids, seed)
        return Ranking(name, differences.mean(0), p_values, false_discovery_control(p_values, method="bh"))

    return ranking


def _rate(found: Comparison, name: str, seed: int) -> Ranking:
    """Insecure − secure, share of tokens in which the latent fires."""
    return Ranking(name, (found.rates.insecure - found.rates.secure).numpy())


def _cosine(found: Comparison, name: str, seed: int) -> Ranking:
    """Cosine of the decoder row with the difference of means insecure − secure, of latents that fire at all."""
    scores = found.dictionary.cosines(found.centre.insecure - found.centre.secure)
    return Ranking(name, _alive(found, scores.cpu()))


def _probe(found: Comparison, name: str, seed: int) -> Ranking:
    """Weight in a logistic regression that tells insecure from secure texts by their latents, each in units of its
    spread."""
    from sklearn.linear_model import LogisticRegression

    rows = np.concatenate([found.means.insecure.numpy(), found.means.secure.numpy()])
    spread = rows.std(0)
    labels = np.repeat([1, 0], [len(found.means.insecure), len(found.means.secure)])
    scaled = rows / np.where(spread > 0, spread, 1.0)
    weights = LogisticRegression(C=0.01, max_iter=1000).fit(scaled, labels).coef_[0]
    return Ranking(name, np.where(spread > 0, weights, -np.inf))


def _scaling(found: Comparison, name: str, seed: int) -> Ranking:
    """How much of the latent's insecure activation is missing in secure: 1 − β(secure) / β(insecure)."""
    import torch

    ratio = found.scaling.secure / found.scaling.insecure
    scores = torch.where(found.scaling.insecure > 0, 1.0 - ratio, -torch.inf)
    return Ranking(name, _alive(found, scores))


def _alive(found: Comparison, scores: Tensor) -> Float[np.ndarray, "d_sae"]:
    """Scores of latents that are not rare in insecure."""
    values: np.ndarray = scores.float().numpy().copy()
    values[found.rates.insecure.numpy() < RARE] = -np.inf
    values[np.isnan(values)] = -np.inf
    return values


RANKINGS: Mapping[str, Callable[[Comparison, str, int], Ranking]] = {
    "delta": _difference("secure"),
    "delta-base": _difference("base"),
    "rate": _rate,
    "cosine": _cosine,
    "probe": _probe,
    "scaling": _scaling,
}
"""Ways to rank: Δ mean activation to secure and to base, Δ firing rate, cosine to the mean difference, probe weight,
and latent scaling."""
