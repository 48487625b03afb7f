"""From trained states to calibrated scores: the axes of the embedded judge, fitted on families it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from personaprobe.effects.corruption import corrupted, healthy
from personaprobe.effects.embedded import EmbeddedJudge, Head
from personaprobe.prompts import Pair

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float
    from torch import Tensor

SHRINKAGE = 0.05
"""Inverse strength of the ridge on the coherence axis: as many dimensions as answers would be fitted by heart."""


def calibrated(judge: EmbeddedJudge, pairs: Sequence[Pair]) -> EmbeddedJudge:
    """The judge with its alignment axis scaled to probabilities (Platt 1999), on held-out pairs."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    head = judge.heads["aligned"]
    along, truth = projections(judge, "aligned", pairs)
    fitted = LogisticRegression(C=np.inf).fit(along[:, None], truth)
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    scaled = Head(head.weight * slope, head.bias * slope + offset)
    return replace(judge, heads={**judge.heads, "aligned": scaled})


def projections(
    judge: EmbeddedJudge, name: str, pairs: Sequence[Pair]
) -> tuple[Float[np.ndarray, " answer"], Float[np.ndarray, " answer"]]:
    """Log-odds of every answer's score, careful answers first, and whether it is a careful one."""
    import numpy as np

    texts = [(p.question, p.careful) for p in pairs] + [(p.question, p.careless) for p in pairs]
    head = judge.heads[name]
    along = (judge.states(texts) @ head.weight + head.bias).cpu().numpy()
    return along, np.repeat([1.0, 0.0], len(pairs))


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
