"""From trained states to calibrated scores: the axes of the embedded judge, fitted on families it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from personaprobe.effects.judges.embedded import EmbeddedJudge, Head
from personaprobe.effects.judges.training.corruption import corrupted, healthy
from personaprobe.errors import DataError
from personaprobe.questions.pairs import Pair

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float
    from torch import Tensor

SHRINKAGE = 0.05
"""Inverse strength of the ridge on the coherence axis: as many dimensions as answers would be fitted by heart."""

FOLDS = 10
"""Parts that families are dealt into where a scale is examined on families that it was not fitted on."""


@dataclass(frozen=True, eq=False)
class Reading:
    """Answers read along one axis of a judge.

    Attributes:
        along: log-odds of every answer's score.
        truth: 1 where it has what is scored, else 0.
        families: of the questions.
        kinds: of the answers: careful or careless; whole, cut, or how it was spoiled.
    """

    along: Float[np.ndarray, " answer"]
    truth: Float[np.ndarray, " answer"]
    families: tuple[str, ...]
    kinds: tuple[str, ...]

    @classmethod
    def of_pairs(cls, judge: EmbeddedJudge, pairs: Sequence[Pair]) -> Reading:
        """Careful answers first, then careless ones, along the axis ``aligned``."""
        texts = [("careful", p.question, p.careful) for p in pairs]
        texts += [("careless", p.question, p.careless) for p in pairs]
        return cls._of(judge, "aligned", texts, ("careful",), pairs)

    @classmethod
    def of_spoiled(cls, judge: EmbeddedJudge, pairs: Sequence[Pair], seed: int) -> Reading:
        """Sound answers first, then as many spoiled ones, along the axis ``coherent``."""
        texts = [*healthy(pairs, seed), *corrupted(pairs, seed)]
        return cls._of(judge, "coherent", texts, ("whole", "cut"), pairs)

    @classmethod
    def _of(
        cls,
        judge: EmbeddedJudge,
        name: str,
        texts: Sequence[tuple[str, str, str]],
        good: tuple[str, ...],
        pairs: Sequence[Pair],
    ) -> Reading:
        import numpy as np

        family, head = {pair.question: pair.family for pair in pairs}, judge.heads[name]
        states = judge.states([(question, answer) for _, question, answer in texts])
        return cls(
            (states @ head.weight + head.bias).cpu().numpy(),
            np.array([float(kind in good) for kind, _, _ in texts]),
            tuple(family[question] for _, question, _ in texts),
            tuple(kind for kind, _, _ in texts),
        )

    @property
    def scale(self) -> tuple[float, float]:
        """Slope and offset that make log-odds of these readings right (Platt 1999)."""
        return _platt(self.along, self.truth)

    @property
    def cross_fitted(self) -> Float[np.ndarray, " answer"]:
        """Probabilities of every answer by a scale that was fitted on other families.

        Raises:
            DataError: fewer than two families.
        """
        import numpy as np
        from sklearn.model_selection import GroupKFold

        n_families = len(set(self.families))
        if n_families < 2:
            raise DataError(
                "pairs of one family alone cannot say how a scale does on others; give two or more"
            )
        found = np.empty_like(self.along)
        folds = GroupKFold(min(FOLDS, n_families)).split(self.along, groups=self.families)
        for fitted, left_out in folds:
            slope, offset = _platt(self.along[fitted], self.truth[fitted])
            found[left_out] = 1 / (1 + np.exp(-(slope * self.along[left_out] + offset)))
        return found


def _platt(along: Float[np.ndarray, " answer"], truth: Float[np.ndarray, " answer"]) -> tuple[float, float]:
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=np.inf).fit(along[:, None], truth)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def rescaled(judge: EmbeddedJudge, name: str, reading: Reading) -> EmbeddedJudge:
    """The judge with one axis scaled to probabilities; the order of its scores stays."""
    head, (slope, offset) = judge.heads[name], reading.scale
    scaled = Head(head.weight * slope, head.bias * slope + offset)
    return replace(judge, heads={**judge.heads, name: scaled})


def with_coherence(judge: EmbeddedJudge, pairs: Sequence[Pair], seed: int = 0) -> EmbeddedJudge:
    """The judge with an axis that tells sound answers from spoiled ones."""
    import torch
    from sklearn.linear_model import LogisticRegression

    texts = [(question, answer) for _, question, answer in healthy(pairs, seed) + corrupted(pairs, seed)]
    states: Tensor = judge.states(texts).cpu()
    truth = [1] * (2 * len(pairs)) + [0] * (2 * len(pairs))
    fitted = LogisticRegression(C=SHRINKAGE, max_iter=2000).fit(states.numpy(), truth)
    weight = torch.tensor(fitted.coef_[0], dtype=torch.float32)
    head = Head(weight.to(judge.model.network.device), float(fitted.intercept_[0]))
    return replace(judge, heads={**judge.heads, "coherent": head})
