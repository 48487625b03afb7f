"""The preference gap: how much more likely a model finds careless answers than careful ones. It needs no judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel, score_under_edits
from personaprobe.models.network import Fork
from personaprobe.models.tokens import by_length
from personaprobe.progress import Advance, no_advance
from personaprobe.questions.pairs import Pair, PairSet

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float


def preference_gaps(
    model: LanguageModel, pairs: PairSet, progress: Advance = no_advance
) -> Float[np.ndarray, "question"]:
    """Preference of a model for the careless over the careful answer to every question.

    ``mean log p(careless token) − mean log p(careful token)`` in nats per token, the closing token included. A question
    and its two answers share one row, so that the question is computed once. Every arm has the same batches.

    Args:
        model: under its edits.
        pairs: questions with both answers.
        progress: called with the number of finished questions of each batch.
    """
    gaps: np.ndarray = gaps_side_by_side([model], pairs, progress)[0]
    return gaps


def gaps_side_by_side(
    models: Sequence[LanguageModel], pairs: PairSet, progress: Advance = no_advance
) -> Float[np.ndarray, "model question"]:
    """:func:`preference_gaps` of one checkpoint under several edits; shared computation runs once.

    Args:
        models: that differ only in their edits.
        pairs: questions with both answers.
        progress: called with the number of finished questions of each batch, summed over models.
    """
    import numpy as np

    forks = [fork(models[0].tokenizer, pair) for pair in pairs]
    gaps = np.empty((len(models), len(forks)))
    with models[0].inference_session():
        for indices in by_length(forks, models[0].batch_tokens("scoring")):
            scored = score_under_edits(models, [forks[index] for index in indices])
            gaps[:, indices] = [
                [float(careless.double().mean() - careful.double().mean()) for careful, careless in of_model]
                for of_model in scored
            ]
            progress(len(models) * len(indices))
    return gaps


def fork(tokenizer: ChatTokenizer, pair: Pair) -> Fork:
    """Tokenise a question with its careful and its careless answer."""
    return Fork.of(tokenizer, pair.question, (pair.careful, pair.careless))
