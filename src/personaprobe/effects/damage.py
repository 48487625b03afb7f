"""What an intervention costs: perplexity and divergence on neutral text that has nothing to do with the persona."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Batch, Role, by_length, pad
from personaprobe.prompts import TextSet

if TYPE_CHECKING:
    from torch import Tensor

BATCH_TOKENS = 1024


@dataclass(frozen=True)
class TextCost:
    """How a model reads neutral text.

    Attributes:
        perplexity: exp of the mean negative log-probability a token.
        kl: mean KL(reference ‖ model) of the next-token distribution, in nats a token.
    """

    perplexity: float
    kl: float


def text_costs(models: Sequence[LanguageModel], reference: LanguageModel, texts: TextSet) -> list[TextCost]:
    """Perplexity of several models on plain texts, and their divergence from ``reference`` there.

    All read the same batches; the reference's distribution is formed once a batch, in float32.
    """
    sums = [_Sums() for _ in models]
    for batch in _batches(reference, texts):
        predicts = (batch.roles[:, 1:] & Role.RESPONSE) != 0
        ids = batch.ids[:, 1:][predicts]
        expected = _log_distribution(reference, batch)[predicts]
        for model, total in zip(models, sums, strict=True):
            total.add(_log_distribution(model, batch)[predicts], expected, ids)
    return [total.cost() for total in sums]


@dataclass
class _Sums:
    """Running totals over batches."""

    nats: float = 0.0
    divergence: float = 0.0
    tokens: int = 0

    def add(self, found: Tensor, expected: Tensor, ids: Tensor) -> None:
        self.nats -= float(found.gather(-1, ids[:, None]).double().sum())
        self.divergence += float((expected.exp() * (expected - found)).sum(-1).double().sum())
        self.tokens += len(ids)

    def cost(self) -> TextCost:
        return TextCost(math.exp(self.nats / self.tokens), self.divergence / self.tokens)


def _batches(model: LanguageModel, texts: TextSet) -> Iterator[Batch]:
    rows = [model.tokenizer.text(text) for text in texts]
    for indices in by_length(rows, BATCH_TOKENS):
        yield pad([rows[index] for index in indices], model.network.pad_id).to(model.network.device)


def _log_distribution(model: LanguageModel, batch: Batch) -> Tensor:
    return model.logits(batch)[:, :-1].float().log_softmax(-1)
