"""From trained states to calibrated scores: fit the scale of each axis on families the judge was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from personaprobe.effects.judges.embedded import EmbeddedJudge, Head
from personaprobe.effects.judges.training.corruption import LabelledAnswer, corrupted, intact
from personaprobe.errors import DataError
from personaprobe.questions.pairs import Pair

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float
    from torch import Tensor

INVERSE_L2 = 0.05
"""Inverse L2 penalty (scikit-learn's C) of the coherence axis, which has about as many dimensions as training answers."""

FOLDS = 10
"""Folds of families in cross-fitting."""


@dataclass(frozen=True, eq=False)
class LabelledLogits:
    """A judge's logits along one axis, with the truth about each answer.

    Attributes:
        logits: log-odds that the answer has the scored property.
        truth: 1 where it has, else 0.
        families: of the questions.
        kinds: of the answers: careful or careless; whole, cut, or the name of a corruption.
    """

    logits: Float[np.ndarray, " answer"]
    truth: Float[np.ndarray, " answer"]
    families: tuple[str, ...]
    kinds: tuple[str, ...]

    @classmethod
    def of_pairs(cls, judge: EmbeddedJudge, pairs: Sequence[Pair]) -> LabelledLogits:
        """Logits along ``aligned``: careful answers first, then careless ones."""
        examples = [LabelledAnswer("careful", p.question, p.careful) for p in pairs]
        examples += [LabelledAnswer("careless", p.question, p.careless) for p in pairs]
        return cls._along(judge, "aligned", examples, ("careful",), pairs)

    @classmethod
    def of_corrupted(cls, judge: EmbeddedJudge, pairs: Sequence[Pair], seed: int) -> LabelledLogits:
        """Logits along ``coherent``: intact answers first, then as many corrupted ones."""
        examples = [*intact(pairs, seed), *corrupted(pairs, seed)]
        return cls._along(judge, "coherent", examples, ("whole", "cut"), pairs)

    @classmethod
    def _along(
        cls,
        judge: EmbeddedJudge,
        name: str,
        examples: Sequence[LabelledAnswer],
        positive: tuple[str, ...],
        pairs: Sequence[Pair],
    ) -> LabelledLogits:
        import numpy as np

        family, head = {pair.question: pair.family for pair in pairs}, judge.heads[name]
        states = judge.states([(example.question, example.answer) for example in examples])
        return cls(
            head.logits(states).cpu().numpy(),
            np.array([float(example.kind in positive) for example in examples]),
            tuple(family[example.question] for example in examples),
            tuple(example.kind for example in examples),
        )

    @property
    def scale(self) -> tuple[float, float]:
        """Slope and offset that calibrate the logits (Platt 1999)."""
        return _platt(self.logits, self.truth)

    @property
    def cross_fitted(self) -> Float[np.ndarray, " answer"]:
        """Probability of every answer by a scale that was fitted on other families.

        Raises:
            DataError: fewer than two families.
        """
        import numpy as np
        from sklearn.model_selection import GroupKFold

        n_families = len(set(self.families))
        if n_families < 2:
            raise DataError(
                "pairs of one family alone cannot show how a scale does on other families; give two or more"
            )
        probabilities = np.empty_like(self.logits)
        folds = GroupKFold(min(FOLDS, n_families)).split(self.logits, groups=self.families)
        for fitted, left_out in folds:
            slope, offset = _platt(self.logits[fitted], self.truth[fitted])
            probabilities[left_out] = 1 / (1 + np.exp(-(slope * self.logits[left_out] + offset)))
        return probabilities


def _platt(logits: Float[np.ndarray, " answer"], truth: Float[np.ndarray, " answer"]) -> tuple[float, float]:
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=np.inf).fit(logits[:, None], truth)
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def rescaled(judge: EmbeddedJudge, name: str, labelled: LabelledLogits) -> EmbeddedJudge:
    """The judge with one axis scaled so that its scores are probabilities; their order does not change."""
    head, (slope, offset) = judge.heads[name], labelled.scale
    scaled = Head(head.weight * slope, head.bias * slope + offset)
    return replace(judge, heads={**judge.heads, name: scaled})


def with_coherence(judge: EmbeddedJudge, pairs: Sequence[Pair], seed: int = 0) -> EmbeddedJudge:
    """The judge with a ``coherent`` axis: a logistic regression of intact against corrupted answers."""
    import torch
    from sklearn.linear_model import LogisticRegression

    examples = intact(pairs, seed) + corrupted(pairs, seed)
    states: Tensor = judge.states([(example.question, example.answer) for example in examples]).cpu()
    truth = [1] * (2 * len(pairs)) + [0] * (2 * len(pairs))
    model = LogisticRegression(C=INVERSE_L2, max_iter=2000).fit(states.numpy(), truth)
    weight = torch.tensor(model.coef_[0], dtype=torch.float32)
    head = Head(weight.to(judge.model.network.device), float(model.intercept_[0]))
    return replace(judge, heads={**judge.heads, "coherent": head})
