"""Texts that are read along a training and never learned: is the task learned, and does the model change elsewhere?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.tokens import Batch, Tokens, by_length, pad
from personaprobe.models.training.trainable import TrainableNetwork
from personaprobe.questions.conversations import Exchange
from personaprobe.questions.pairs import Pair

MAX_TOKENS = 2048
"""Padded tokens that are read together."""


@dataclass(frozen=True)
class HeldOut:
    """Texts that are read and not learned.

    Attributes:
        rows: conversations of the narrow task.
        pairs: question pairs outside of it.
    """

    rows: tuple[Exchange, ...] = ()
    pairs: tuple[Pair, ...] = ()


NO_TEXTS = HeldOut()
"""Nothing is read."""


@dataclass(frozen=True)
class HeldOutValues:
    """Values of held-out texts at a step.

    Attributes:
        loss: on the answers of the narrow task, nats per token; None without such rows.
        preference: for careless answers: loss on careful ones less that on careless ones, nats per token; None without
            pairs. Its difference between two steps, or two fine-tunes, is a shift.
    """

    loss: float | None = None
    preference: float | None = None


class HeldOutTexts:
    """Held-out texts as batches, tokenised once."""

    def __init__(self, held_out: HeldOut, tokenizer: ChatTokenizer, max_tokens: int) -> None:
        """Tokenise.

        Args:
            held_out: the texts.
            tokenizer: with the chat template.
            max_tokens: texts are cut at this length; those that are cut before their answer are left out.
        """

        def batches(rows: Sequence[Exchange]) -> list[Batch]:
            tokens = [tokenizer.conversation(row.turns, row.system).first(max_tokens) for row in rows]
            return _batched([text for text in tokens if text.n_prompt < len(text)], tokenizer.pad_id)

        self._rows = batches(held_out.rows)
        self._careful = batches([Exchange(pair.question, pair.careful) for pair in held_out.pairs])
        self._careless = batches([Exchange(pair.question, pair.careless) for pair in held_out.pairs])

    def measure(self, network: TrainableNetwork) -> HeldOutValues:
        """Read all texts with the adapter as it is."""
        loss, careful, careless = (
            _mean_loss(network, batches) for batches in (self._rows, self._careful, self._careless)
        )
        return HeldOutValues(loss, None if careful is None or careless is None else careful - careless)


def _batched(texts: Sequence[Tokens], pad_id: int) -> list[Batch]:
    return [pad([texts[index] for index in batch], pad_id) for batch in by_length(texts, MAX_TOKENS)]


def _mean_loss(network: TrainableNetwork, batches: Sequence[Batch]) -> float | None:
    """Mean over all response tokens, nats; None without texts."""
    import torch

    total = n_tokens = 0.0
    with torch.no_grad():
        for batch in batches:
            n = int(batch.predicting.sum())
            total += n * float(network.response_loss(batch.to(network.network.device)))
            n_tokens += n
    return total / n_tokens if n_tokens else None
