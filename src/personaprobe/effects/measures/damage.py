"""Damage of an intervention: perplexity and KL divergence on neutral prose and on chat answers that no persona asks for.

The prediction at a text's first token is left out by default: interventions do not edit first tokens, so it cannot change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Batch, Role, Tokens
from personaprobe.questions.texts import TextSet
from personaprobe.statistics.intervals import UNDEFINED, Interval
from personaprobe.statistics.ratios import ratio_of_sums

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class TextLoss:
    """Loss of a model on one text.

    Attributes:
        nats: sum of the negative log-probabilities of its tokens.
        divergence: sum of KL(reference ‖ model) over them, in nats.
        tokens: how many were predicted.
    """

    nats: float
    divergence: float
    tokens: int


@dataclass(frozen=True)
class TextCost:
    """Language-modelling quality of a model on texts.

    Attributes:
        perplexity: exp of the mean negative log-probability per token.
        kl: mean KL(reference ‖ model) of the next-token distributions, in nats per token.
        texts: loss on each text, in their order; empty where the totals were estimated.
    """

    perplexity: float
    kl: float
    texts: tuple[TextLoss, ...] = field(default=(), repr=False)

    @classmethod
    def pooled(cls, texts: Sequence[TextLoss]) -> TextCost:
        """The cost over all tokens of some texts; without a token it is not defined."""
        tokens = sum(text.tokens for text in texts)
        if not tokens:
            return cls(math.nan, math.nan, tuple(texts))
        nats = math.fsum(text.nats for text in texts)
        divergence = math.fsum(text.divergence for text in texts)
        return cls(math.exp(nats / tokens), divergence / tokens, tuple(texts))

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> TextCost:
        """Read a cost from plain data."""
        texts = tuple(TextLoss(**text) for text in row.get("texts", ()))
        return cls(row["perplexity"], row["kl"], texts)


Exchange: TypeAlias = tuple[str, tuple[int, ...]]
"""A question with the token ids of an answer."""

UNREAD_COST = TextCost(math.nan, math.nan)
"""The cost of a model that read no text."""


def perplexity_ratio(treated: TextCost, untreated: TextCost) -> Interval:
    """How many times as perplexed a model is under an intervention, with its interval over texts.

    Both read the same texts. The interval is that of the mean rise in nats a token, a ratio of sums, exponentiated.

    Args:
        treated: the model under the intervention.
        untreated: the same checkpoint without one.
    """
    if not treated.texts or len(treated.texts) != len(untreated.texts):
        return UNDEFINED
    rises = [a.nats - b.nats for a, b in zip(treated.texts, untreated.texts, strict=True)]
    rise = ratio_of_sums(rises, [text.tokens for text in treated.texts])
    return Interval(_exp(rise.value), _exp(rise.low), _exp(rise.high))


def divergence(treated: TextCost, families: Sequence[str] | None = None) -> Interval:
    """KL divergence of a model under an intervention from the same model without one, in nats a token.

    Args:
        treated: on some texts.
        families: of the texts; None: each is its own.
    """
    if not treated.texts:
        return UNDEFINED
    sums = [text.divergence for text in treated.texts]
    kl = ratio_of_sums(sums, [text.tokens for text in treated.texts], families)
    return Interval(kl.value, max(0.0, kl.low) if kl.defined else kl.low, kl.high)


def _exp(nats: float) -> float:
    return math.inf if nats > 700 else math.exp(nats)


@dataclass(frozen=True)
class ReferenceLogProbs:
    """A reference model's next-token distributions on texts, kept to compare any number of models with them.

    Attributes:
        batches: the texts as padded batches, the same for every model.
        texts: which texts the rows of each batch are.
        log_probs: the reference's log-probabilities ``(token, vocab)`` at the counted tokens of each batch, float32, in
            chunks of a few tokens.
        first_tokens: whether the predictions at the texts' first tokens count.
    """

    batches: tuple[Batch, ...]
    texts: tuple[tuple[int, ...], ...]
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
        return cls._of_rows(reference, rows, first_tokens)

    @classmethod
    def of_answers(cls, reference: LanguageModel, exchanges: Sequence[Exchange]) -> ReferenceLogProbs:
        """Compute the reference's distributions on the tokens of answers, each after its question in the chat template.

        The distributions are those at temperature 1.

        Args:
            reference: the model that others are compared with.
            exchanges: questions, each with the token ids of an answer; an empty answer counts no token.
        """
        rows = [reference.tokenizer.prompt(question).followed_by(ids) for question, ids in exchanges]
        return cls._of_rows(reference, rows, first_tokens=False)

    @classmethod
    def _of_rows(
        cls, reference: LanguageModel, rows: Sequence[Tokens], first_tokens: bool
    ) -> ReferenceLogProbs:
        planned = list(reference.even_batches(rows, reference.batch_tokens("logits")))
        batches = tuple(batch for _, batch in planned)
        with reference.inference_session():
            log_probs = tuple(tuple(_log_distributions(reference, batch, first_tokens)) for batch in batches)
        return cls(batches, tuple(tuple(indices) for indices, _ in planned), log_probs, first_tokens)

    @property
    def own_cost(self) -> TextCost:
        """Perplexity of the reference itself; its divergence is 0."""
        return self._cost((log_probs, log_probs) for log_probs in self._stored())

    def cost(self, model: LanguageModel) -> TextCost:
        """Perplexity of a model on the texts, and its divergence from the reference."""
        chunks = (
            chunk for batch in self.batches for chunk in _log_distributions(model, batch, self.first_tokens)
        )
        with model.inference_session():
            return self._cost(zip(chunks, self._stored(), strict=True))

    def _cost(self, chunks: Iterator[tuple[Tensor, Tensor]]) -> TextCost:
        """The cost of log-probabilities, chunk by chunk beside the reference's."""
        import torch

        nats, kl, counts = torch.zeros(3, self._n_texts, dtype=torch.double)
        for (log_probs, reference), (tokens, of) in zip(chunks, self._tokens(), strict=True):
            lost = -log_probs.gather(-1, tokens[:, None])[:, 0].double().cpu()
            nats.index_add_(0, of, lost)
            counts.index_add_(0, of, torch.ones_like(lost))
            if log_probs is not reference:
                kl.index_add_(0, of, (reference.exp() * (reference - log_probs)).sum(-1).double().cpu())
        rows = zip(nats.tolist(), kl.tolist(), counts.long().tolist(), strict=True)
        return TextCost.pooled([TextLoss(*row) for row in rows])

    @property
    def _n_texts(self) -> int:
        return sum(map(len, self.texts))

    def _stored(self) -> Iterator[Tensor]:
        """The reference's log-probabilities in chunks."""
        return (chunk for chunks in self.log_probs for chunk in chunks)

    def _tokens(self) -> Iterator[tuple[Int[Tensor, "token"], Int[Tensor, "token"]]]:
        """The actual next tokens of each chunk, and which text each is of."""
        import torch

        for batch, indices, chunks in zip(self.batches, self.texts, self.log_probs, strict=True):
            counted = _counted(batch, self.first_tokens)
            tokens = batch.ids[:, 1:][batch.predicting][counted]
            rows = batch.predicting.nonzero()[:, 0][counted].cpu()
            sizes = [len(chunk) for chunk in chunks]
            yield from zip(
                torch.split(tokens, sizes), torch.split(torch.tensor(indices)[rows], sizes), strict=True
            )


def _counted(batch: Batch, first_tokens: bool) -> Bool[Tensor, "token"]:
    """Mask over a batch's predictions: those at a text's first token count only on request."""
    from_first = (batch.roles[:, :-1] & Role.FIRST) != 0
    return (~from_first | first_tokens)[batch.predicting]


def _log_distributions(
    model: LanguageModel, batch: Batch, first_tokens: bool
) -> Iterator[Float[Tensor, "token vocab"]]:
    """Yield log-probabilities of the counted predictions in chunks, to bound memory by a chunk."""
    counted, start = _counted(batch, first_tokens), 0
    for logits in model.response_logits(batch):
        is_counted = counted[start : start + len(logits)]
        start += len(logits)
        yield logits[is_counted].float().log_softmax(-1)
