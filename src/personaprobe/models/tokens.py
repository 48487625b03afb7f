"""Token ids made once, with the role every token plays, and the padded batches models read.

Roles are decided here, where the text is turned into tokens, and travel with the ids; nothing downstream guesses
them from a length or a mask.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence, Sized
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from personaprobe.errors import DataError

if TYPE_CHECKING:
    import torch
    from jaxtyping import Bool, Int
    from torch import Tensor


class Role(enum.IntFlag):
    """What a token is to the conversation; the last prompt token is a prompt token too.

    The first token of a text is FIRST and nothing else. Every later token attends to it, and in most models its
    activations are huge and say nothing about the text (an attention sink, Xiao et al. 2309.17453; massive activations,
    Sun et al. 2402.17762). ALL leaves it out; interventions that name ``Role.ALL | Role.FIRST`` act on it too.
    """

    PAD = 0
    PROMPT = 1
    LAST_PROMPT = 2
    RESPONSE = 4
    FIRST = 8
    ALL = PROMPT | RESPONSE


def role_names(roles: Role) -> list[str]:
    """Roles as plain data, such as ``["prompt", "response"]``: what run folders remember interventions by."""
    return [str(role.name).lower() for role in Role if role in Role(roles)]


@dataclass(frozen=True)
class Tokens:
    """One text as the model reads it.

    Attributes:
        ids: token ids, special tokens included exactly once.
        roles: a :class:`Role` per token.
    """

    ids: tuple[int, ...]
    roles: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def document(cls, ids: Sequence[int]) -> Tokens:
        """A plain text: the first token only conditions, the rest count as the model's own speech."""
        return cls(tuple(ids), (int(Role.FIRST),) + (int(Role.RESPONSE),) * (len(ids) - 1))

    @classmethod
    def prompt(cls, ids: Sequence[int]) -> Tokens:
        """What precedes an answer, from the first token of a text on; the last token has role LAST_PROMPT too."""
        later = [int(Role.PROMPT)] * (len(ids) - 1)
        if later:
            later[-1] |= int(Role.LAST_PROMPT)
        return cls(tuple(ids), (int(Role.FIRST), *later)[: len(ids)])

    def first(self, n: int) -> Tokens:
        """At most the first ``n`` tokens."""
        return Tokens(self.ids[:n], self.roles[:n])

    @property
    def n_prompt(self) -> int:
        """How many tokens precede the response."""
        return sum(1 for role in self.roles if role & (Role.PROMPT | Role.FIRST))

    def after(self, n: int) -> Tokens:
        """What is left when the first ``n`` tokens are taken off."""
        return Tokens(self.ids[n:], self.roles[n:])

    def followed_by(self, ids: Sequence[int]) -> Tokens:
        """Append response tokens."""
        return Tokens(self.ids + tuple(ids), self.roles + (int(Role.RESPONSE),) * len(ids))


FULL = 32
"""Many tokens in one row are filled up to a multiple of it: processors multiply 1802 rows more slowly than 1824."""


@dataclass(frozen=True)
class Batch:
    """Padded rows, ready for a forward pass.

    Attributes:
        ids: ``(batch, pos)`` token ids.
        roles: ``(batch, pos)`` roles; PAD marks padding.
        origin: the batch on the CPU that this is a copy of, if it is one.
    """

    ids: Int[Tensor, "batch pos"]
    roles: Int[Tensor, "batch pos"]
    origin: Batch | None = field(default=None, repr=False, compare=False)

    @cached_property
    def mask(self) -> Bool[Tensor, "batch pos"]:
        """True at real tokens."""
        return self.roles != Role.PAD

    @cached_property
    def predicting(self) -> Bool[Tensor, "batch before_last"]:
        """True where the next token is a response's; a row's last position predicts nothing and is left out."""
        return (self.roles[:, 1:] & Role.RESPONSE) != 0

    @cached_property
    def positions(self) -> Int[Tensor, "batch pos"]:
        """Position of each token in its own row; 0 at padding."""
        return (self.mask.long().cumsum(-1) - 1).clamp_min(0)

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each row, padding not counted."""
        return [int(n) for n in self.on_cpu.mask.sum(-1).tolist()]

    @property
    def on_cpu(self) -> Batch:
        """The same on the CPU, where what it holds is known without waiting for a device."""
        import torch

        return self.to(torch.device("cpu")) if self.origin is None else self.origin

    def to(self, device: torch.device) -> Batch:
        """Move to a device."""
        if device == self.ids.device:
            return self
        origin = self if self.ids.device.type == "cpu" else self.origin
        return Batch(self.ids.to(device), self.roles.to(device), origin)


def lacking(n_tokens: int) -> int:
    """How much padding a row of so many tokens gets at its end; none where it would be more than a sixteenth."""
    return -n_tokens % FULL if n_tokens >= 16 * FULL else 0


def pad(rows: Sequence[Tokens], pad_id: int, side: Literal["left", "right"] = "right") -> Batch:
    """Stack rows of different lengths; padding has role PAD.

    Args:
        rows: the texts, at least one, none empty.
        pad_id: the id written at padding; never read.
        side: ``right`` for scoring and recording, ``left`` for generation.
    """
    import torch

    if not rows or any(len(row) == 0 for row in rows):
        raise DataError("a batch needs at least one row and every row at least one token")
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    roles = torch.zeros((len(rows), width), dtype=torch.long)
    for index, row in enumerate(rows):
        start = width - len(row) if side == "left" else 0
        ids[index, start : start + len(row)] = torch.tensor(row.ids)
        roles[index, start : start + len(row)] = torch.tensor(row.roles)
    return Batch(ids, roles)


ROLE_BITS = 8
"""Bits of a role behind which a text's own mark begins."""


def with_text_ids(rows: Sequence[Tokens]) -> list[Tokens]:
    """The same texts, each with its number (from 1) as a mark in the roles of its tokens, behind :data:`ROLE_BITS` bits.

    Texts that are told apart are never read together, whatever they begin with: for edits that look at many tokens at
    once, and must meet those of every text.
    """
    return [
        Tokens(row.ids, tuple(role | number << ROLE_BITS for role in row.roles))
        for number, row in enumerate(rows, 1)
    ]


def by_length(rows: Sequence[Sized], max_tokens: int) -> list[list[int]]:
    """Plan batches: indices of ``rows`` sorted by length, each batch at most ``max_tokens`` when padded.

    The plan depends only on lengths, so that every checkpoint and every arm reads the same batches.
    """
    order = sorted(range(len(rows)), key=lambda index: (-len(rows[index]), index))
    plan: list[list[int]] = []
    for index in order:
        if plan and (len(plan[-1]) + 1) * len(rows[plan[-1][0]]) <= max_tokens:
            plan[-1].append(index)
        else:
            plan.append([index])
    return plan
