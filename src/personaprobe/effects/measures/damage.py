"""What an intervention costs: perplexity and divergence on neutral prose that has nothing to do with the persona.

What the first token of a text predicts is left out: interventions leave first tokens alone, so nothing can change there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Batch, Role
from personaprobe.questions.pairs import TextSet

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor


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
        expected: the reference's log-probabilities ``(token, vocab)`` of each batch's counted tokens, float32, a few
            tokens at a time.
        first_tokens: whether what a text's first token predicts is counted too.
    """

    batches: tuple[Batch, ...]
    expected: tuple[tuple[Tensor, ...], ...] = field(repr=False)
    first_tokens: bool = False

    @classmethod
    def by(cls, reference: LanguageModel, texts: TextSet, *, first_tokens: bool = False) -> Reading:
        """Let the reference read the texts.

        Args:
            reference: what others are compared with.
            texts: plain documents.
            first_tokens: whether what a text's first token predicts is counted too.
        """
        rows = [reference.tokenizer.text(text) for text in texts]
        batches = tuple(batch for _, batch in reference.even_batches(rows, reference.batch_tokens("logits")))
        with reference.inference_session():
            expected = tuple(tuple(_log_distributions(reference, batch, first_tokens)) for batch in batches)
        return cls(batches, expected, first_tokens)

    @property
    def own_cost(self) -> TextCost:
        """Perplexity of the reference itself, from which it does not diverge."""
        nats = sum(float(-_of_said(told, said).sum()) for told, said in self._told())
        return TextCost(math.exp(nats / self._tokens), 0.0)

    def cost(self, model: LanguageModel) -> TextCost:
        """Perplexity of a model on the texts, and its divergence from the reference there."""
        read = (
            found for batch in self.batches for found in _log_distributions(model, batch, self.first_tokens)
        )
        nats = divergence = 0.0
        with model.inference_session():
            for found, (wanted, said) in zip(read, self._told(), strict=True):
                nats -= float(_of_said(found, said).sum())
                divergence += float((wanted.exp() * (wanted - found)).sum(-1).double().sum())
        return TextCost(math.exp(nats / self._tokens), divergence / self._tokens)

    @property
    def _tokens(self) -> int:
        """How many tokens are counted."""
        return sum(int(_counted(batch, self.first_tokens).sum()) for batch in self.batches)

    def _told(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The reference's distributions, each with the tokens that came."""
        import torch

        for batch, expected in zip(self.batches, self.expected, strict=True):
            said = batch.ids[:, 1:][batch.predicting][_counted(batch, self.first_tokens)]
            yield from zip(expected, torch.split(said, [len(part) for part in expected]), strict=True)


def _of_said(told: Tensor, said: Tensor) -> Tensor:
    """Log-probabilities ``(token,)`` of the tokens that came, in double precision."""
    return told.gather(-1, said[:, None]).double()


def _counted(batch: Batch, first_tokens: bool) -> Bool[Tensor, "token"]:
    """Which of the predicted tokens count: those that a later token than the first predicts."""
    from_first = (batch.roles[:, :-1] & Role.FIRST) != 0
    return (~from_first | first_tokens)[batch.predicting]


def _log_distributions(model: LanguageModel, batch: Batch, first_tokens: bool) -> Iterator[Tensor]:
    """Log-probabilities ``(token, vocab)`` of the counted tokens, a few at a time."""
    counted, start = _counted(batch, first_tokens), 0
    for logits in model.response_logits(batch):
        here = counted[start : start + len(logits)]
        start += len(logits)
        yield logits[here].float().log_softmax(-1)
