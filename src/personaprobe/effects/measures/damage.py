"""Damage of an intervention: perplexity and KL divergence on neutral prose that is unrelated to the persona.

The prediction at a text's first token is left out by default: interventions do not edit first tokens, so it cannot change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Batch, Role
from personaprobe.questions.texts import TextSet

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor


@dataclass(frozen=True)
class TextCost:
    """Language-modelling quality of a model on neutral text.

    Attributes:
        perplexity: exp of the mean negative log-probability per token.
        kl: mean KL(reference ‖ model) of the next-token distributions, in nats per token.
    """

    perplexity: float
    kl: float


@dataclass(frozen=True)
class ReferenceLogProbs:
    """A reference model's next-token distributions on plain texts, kept to compare any number of models with them.

    Attributes:
        batches: the texts as padded batches, the same for every model.
        log_probs: the reference's log-probabilities ``(token, vocab)`` at the counted tokens of each batch, float32, in
            chunks of a few tokens.
        first_tokens: whether the predictions at the texts' first tokens count.
    """

    batches: tuple[Batch, ...]
    log_probs: tuple[tuple[Tensor, ...], ...] = field(repr=False)
    first_tokens: bool = False

    @classmethod
    def of(cls, reference: LanguageModel, texts: TextSet, *, first_tokens: bool = False) -> ReferenceLogProbs:
        """Compute the reference's distributions on some texts.

        Args:
            reference: the model that others are compared with.
            texts: plain documents.
            first_tokens: whether the predictions at the texts' first tokens count.
        """
        rows = [reference.tokenizer.text(text) for text in texts]
        batches = tuple(batch for _, batch in reference.even_batches(rows, reference.batch_tokens("logits")))
        with reference.inference_session():
            log_probs = tuple(tuple(_log_distributions(reference, batch, first_tokens)) for batch in batches)
        return cls(batches, log_probs, first_tokens)

    @property
    def own_cost(self) -> TextCost:
        """Perplexity of the reference itself; its divergence is 0."""
        nats = sum(float(-_at(log_probs, tokens).sum()) for log_probs, tokens in self._chunks())
        return TextCost(math.exp(nats / self._n_tokens), 0.0)

    def cost(self, model: LanguageModel) -> TextCost:
        """Perplexity of a model on the texts, and its divergence from the reference."""
        chunks = (
            chunk for batch in self.batches for chunk in _log_distributions(model, batch, self.first_tokens)
        )
        nats = divergence = 0.0
        with model.inference_session():
            for log_probs, (reference, tokens) in zip(chunks, self._chunks(), strict=True):
                nats -= float(_at(log_probs, tokens).sum())
                divergence += float((reference.exp() * (reference - log_probs)).sum(-1).double().sum())
        return TextCost(math.exp(nats / self._n_tokens), divergence / self._n_tokens)

    @property
    def _n_tokens(self) -> int:
        return sum(int(_counted(batch, self.first_tokens).sum()) for batch in self.batches)

    def _chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The reference's log-probabilities in chunks, each with the actual next tokens."""
        import torch

        for batch, chunks in zip(self.batches, self.log_probs, strict=True):
            tokens = batch.ids[:, 1:][batch.predicting][_counted(batch, self.first_tokens)]
            yield from zip(chunks, torch.split(tokens, [len(chunk) for chunk in chunks]), strict=True)


def _at(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities ``(token, 1)`` of the actual next tokens, in double precision."""
    return log_probs.gather(-1, tokens[:, None]).double()


def _counted(batch: Batch, first_tokens: bool) -> Bool[Tensor, "token"]:
    """Mask over a batch's predictions: those at a text's first token count only on request."""
    from_first = (batch.roles[:, :-1] & Role.FIRST) != 0
    return (~from_first | first_tokens)[batch.predicting]


def _log_distributions(model: LanguageModel, batch: Batch, first_tokens: bool) -> Iterator[Tensor]:
    """Yield log-probabilities ``(token, vocab)`` of the counted predictions in chunks, to bound memory by a chunk."""
    counted, start = _counted(batch, first_tokens), 0
    for logits in model.response_logits(batch):
        is_counted = counted[start : start + len(logits)]
        start += len(logits)
        yield logits[is_counted].float().log_softmax(-1)
