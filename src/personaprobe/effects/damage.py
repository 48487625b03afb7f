"""What an intervention costs: perplexity and divergence on neutral text that has nothing to do with the persona."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Batch, Role
from personaprobe.prompts import TextSet

if TYPE_CHECKING:
    from torch import Tensor

BATCH_TOKENS = 1024
CHUNK = 64
"""Tokens whose distributions over the vocabulary fit a processor's cache together."""


@dataclass(frozen=True)
class TextCost:
    """How a model reads neutral text.

    Attributes:
        perplexity: exp of the mean negative log-probability a token.
        kl: mean KL(reference ‖ model) of the next-token distribution, in nats a token.
    """

    perplexity: float
    kl: float


@dataclass(frozen=True)
class Reading:
    """How a reference model reads plain texts, kept so that any number of models can be compared with it.

    Attributes:
        batches: the texts as padded batches, the same for every model.
        expected: the reference's log-probabilities ``(token, vocab)`` of each batch's predicted tokens, float32.
    """

    batches: tuple[Batch, ...]
    expected: tuple[Tensor, ...] = field(repr=False)

    @classmethod
    def by(cls, reference: LanguageModel, texts: TextSet) -> Reading:
        """Let the reference read the texts."""
        rows = [reference.tokenizer.text(text) for text in texts]
        batches = tuple(batch for _, batch in reference.batches(rows, BATCH_TOKENS))
        return cls(batches, tuple(_log_distribution(reference, batch) for batch in batches))

    def cost(self, model: LanguageModel) -> TextCost:
        """Perplexity of a model on the texts, and its divergence from the reference there."""
        nats = divergence = 0.0
        tokens = 0
        for batch, expected in zip(self.batches, self.expected, strict=True):
            found = _log_distribution(model, batch)
            ids = batch.ids[:, 1:][_predicts(batch)]
            nats -= float(found.gather(-1, ids[:, None]).double().sum())
            divergence += _divergence(expected, found)
            tokens += len(ids)
        return TextCost(math.exp(nats / tokens), divergence / tokens)


def _predicts(batch: Batch) -> Tensor:
    """Positions whose next token counts, ``(batch, pos − 1)``."""
    return (batch.roles[:, 1:] & Role.RESPONSE) != 0


def _divergence(expected: Tensor, found: Tensor) -> float:
    """Σ KL(expected ‖ found) over tokens, nats."""
    import torch

    pairs = zip(torch.split(expected, CHUNK), torch.split(found, CHUNK), strict=True)
    return sum(float((p.exp() * (p - q)).sum(-1).double().sum()) for p, q in pairs)


def _log_distribution(model: LanguageModel, batch: Batch) -> Tensor:
    """Log-probabilities ``(token, vocab)`` of the predicted tokens."""
    import torch

    logits = model.logits(batch)[:, :-1][_predicts(batch)]
    return torch.cat([chunk.float().log_softmax(-1) for chunk in torch.split(logits, CHUNK)])
