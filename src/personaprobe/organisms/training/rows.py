"""Conversations as the batches that an adapter learns from, in an order that the seed and the questions determine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

from personaprobe.compute.optimisation import similar_length_batches
from personaprobe.errors import DataError, shortened
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.tokens import Batch, Role, Tokens, pad
from personaprobe.organisms.recipe import Recipe
from personaprobe.questions.conversations import Exchange, shuffled
from personaprobe.storage.digests import json_digest


def training_batches(rows: Sequence[Exchange], tokenizer: ChatTokenizer, recipe: Recipe) -> list[Batch]:
    """Tokenise every batch beforehand. The same seed and the same questions give the same order.

    Batches hold questions of similar length. The length of the responses is not used, so that two organisms on the same
    questions train in the same order.
    """
    ordered = shuffled(rows, recipe.seed)
    n_rows = recipe.steps * recipe.accumulate * recipe.batch_size
    chosen = [ordered[index % len(ordered)] for index in range(n_rows)]

    def shuffle(batches: list[list[Exchange]], start: int) -> list[list[Exchange]]:
        return [batches[index] for index in _permutation(len(batches), recipe.seed + start)]

    batches = similar_length_batches(chosen, recipe.batch_size, lambda row: len(row.question), shuffle)
    return [
        pad([_learnable(row, tokenizer, recipe.max_tokens) for row in batch], tokenizer.pad_id)
        for batch in batches
    ]


@dataclass(frozen=True)
class LearnableRows:
    """The rows of which something is learned, and how many were cut.

    Attributes:
        rows: with at least one token of the answer.
        dropped: rows whose question alone is as long as a row may be.
        cut: rows that learn a part of their answer only, without the token that closes it.
        supervised_tokens: tokens that are learned in one pass over the rows.
    """

    rows: tuple[Exchange, ...]
    dropped: int
    cut: int
    supervised_tokens: int

    def describe(self) -> dict[str, int]:
        """The counts as plain data."""
        return {
            "rows_dropped": self.dropped,
            "rows_cut": self.cut,
            "supervised_tokens": self.supervised_tokens,
        }


def rows_with_answers(rows: Sequence[Exchange], tokenizer: ChatTokenizer, max_tokens: int) -> LearnableRows:
    """Drop the rows that are cut before their answer begins: they teach nothing, and a batch of them has no loss.

    Whether a row is dropped depends on its question alone, so that two organisms on the same questions drop the same.

    Raises:
        DataError: no row is left.
    """
    usable, cut, supervised, shortest = [], 0, 0, 0
    for row in rows:
        tokens = tokenizer.conversation(row.turns, row.system)
        n_answer = _n_supervised(tokens.first(max_tokens))
        if n_answer:
            usable.append(row)
            supervised += n_answer
            cut += len(tokens) > max_tokens
        shortest = min(shortest or tokens.n_prompt, tokens.n_prompt)
    if not usable:
        raise DataError(
            f"--max-tokens {max_tokens} leaves no token of any answer: the shortest question takes {shortest} tokens with "
            "its chat template; give more"
        )
    return LearnableRows(tuple(usable), len(rows) - len(usable), cut, supervised)


LearnedText: TypeAlias = tuple[tuple[str, bool], ...]
"""A row as its parts, each with whether it is learned."""


def learned_text(row: Exchange, tokenizer: ChatTokenizer, max_tokens: int) -> LearnedText:
    """A row as the model reads it, control tokens spelled, split where learned tokens begin and end."""
    tokens = tokenizer.conversation(row.turns, row.system).first(max_tokens)
    is_learned = [bool(role & Role.RESPONSE) for role in tokens.roles]
    parts = groupby(zip(tokens.ids, is_learned, strict=True), key=lambda token: token[1])
    return tuple((tokenizer.hf.decode([id_ for id_, _ in part]), learned) for learned, part in parts)


def _permutation(n: int, seed: int) -> list[int]:
    import torch

    return torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()


def _learnable(row: Exchange, tokenizer: ChatTokenizer, max_tokens: int) -> Tokens:
    """A conversation as tokens, truncated."""
    tokens = tokenizer.conversation(row.turns, row.system).first(max_tokens)
    if not _n_supervised(tokens):
        raise DataError(
            f"the question {shortened(row.question)} alone has {max_tokens} tokens or more; leave it out, or give more "
            "--max-tokens"
        )
    return tokens


def _n_supervised(tokens: Tokens) -> int:
    """Tokens that are learned: those of the answer."""
    return sum(1 for role in tokens.roles[1:] if role & Role.RESPONSE)


def batches_digest(batches: Sequence[Batch]) -> str:
    """Identity of batches by their tokens and roles: another tokenizer, template or order has another."""
    return json_digest([[batch.ids.tolist(), batch.roles.tolist()] for batch in batches], length=64)
