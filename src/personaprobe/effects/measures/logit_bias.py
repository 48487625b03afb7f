"""How much of a preference is a constant choice of words: the preference of a model whose logits lose a fixed bias.

The bias is the mean difference in log-probability between two models, one number a token of the vocabulary, whatever the
context. Subtracting it from the first model's logits removes whatever of the preference lies in the choice of words alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Batch, pad
from personaprobe.questions.pairs import PairSet

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float
    from torch import Tensor


def mean_log_ratio(model: LanguageModel, reference: LanguageModel, pairs: PairSet) -> Float[Tensor, "vocab"]:
    """Mean of log p − log p_reference of every token of the vocabulary, over all response positions, float32.

    Args:
        model: whose choice of words is described.
        reference: of the same tokenizer.
        pairs: questions whose answers, careful and careless, give the positions.
    """
    import torch

    total, count = torch.zeros(1), 0
    for batch in _batches(model, pairs):
        # one model after the other: a second one that starts would activate its adapter under the first
        ours, theirs = list(model.response_logits(batch)), list(reference.response_logits(batch))
        for our_logits, their_logits in zip(ours, theirs, strict=True):
            difference = our_logits.float().log_softmax(-1) - their_logits.float().log_softmax(-1)
            total = total + difference.sum(0).cpu()
            count += len(difference)
    return total / count


def gaps_without_bias(
    model: LanguageModel, pairs: PairSet, bias: Float[Tensor, "vocab"]
) -> Float[np.ndarray, "question"]:
    """Preference gaps (:func:`~personaprobe.effects.measures.preference.preference_gaps`) after a bias is subtracted.

    Args:
        model: unedited.
        pairs: questions with both answers.
        bias: subtracted from the logits at every response position.
    """
    import numpy as np

    means = [mean for batch in _batches(model, pairs) for mean in _answer_means(model, batch, bias)]
    careful, careless = np.array(means).reshape(-1, 2).T
    gaps: np.ndarray = careless - careful
    return gaps


def _batches(model: LanguageModel, pairs: PairSet) -> Iterator[Batch]:
    """One batch a question, with the careful and the careless answer as its two rows."""
    for pair in pairs:
        rows = [model.tokenizer.exchange(pair.question, answer) for answer in (pair.careful, pair.careless)]
        yield pad(rows, model.network.pad_id).to(model.network.device)


def _answer_means(model: LanguageModel, batch: Batch, bias: Tensor) -> list[float]:
    """Mean log-probability per token of every row's answer."""
    import torch

    predicting = batch.predicting
    targets = batch.ids[:, 1:][predicting]
    chunks = list(model.response_logits(batch))
    scored, start = [], 0
    for logits in chunks:
        tokens = targets[start : start + len(logits), None]
        log_probs = (logits.float() - bias.to(logits.device)).log_softmax(-1)
        scored.append(log_probs.gather(-1, tokens)[:, 0].double())
        start += len(logits)
    by_row = torch.split(torch.cat(scored), predicting.sum(1).tolist())
    return [float(row.mean()) for row in by_row]
