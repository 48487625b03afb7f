"""Token ids with the role of every token, and padded batches of them.

Roles are assigned when a text is tokenised and stay with the ids. No other code guesses them from lengths or masks.
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
    """The role of a token in its conversation; the last prompt token has two roles, PROMPT and LAST_PROMPT.

    The first token of a text has the role FIRST only. Every later token attends to it, and in most models its activations
    are huge and independent of the text (attention sinks, Xiao et al. 2309.17453; massive activations, Sun et al.
    2402.17762). ALL does not contain FIRST; interventions with ``Role.ALL | Role.FIRST`` apply to it too.
    """

    PAD = 0
    PROMPT = 1
    LAST_PROMPT = 2
    RESPONSE = 4
    FIRST = 8
    ALL = PROMPT | RESPONSE


def role_names(roles: Role) -> list[str]:
    """Roles as plain data, such as ``["prompt", "response"]``; run folders store roles in this form."""
    return [str(role.name).lower() for role in Role if role in Role(roles)]


@dataclass(frozen=True)
class Tokens:
    """One tokenised text.

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
        """A plain text: all tokens but the first have the role RESPONSE."""
        return cls(tuple(ids), (int(Role.FIRST),) + (int(Role.RESPONSE),) * (len(ids) - 1))

    @classmethod
    def prompt(cls, ids: Sequence[int]) -> Tokens:
        """The tokens before an answer; the last one also has the role LAST_PROMPT."""
        later = [int(Role.PROMPT)] * (len(ids) - 1)
        if later:
            later[-1] |= int(Role.LAST_PROMPT)
        return cls(tuple(ids), (int(Role.FIRST), *later)[: len(ids)])

    def first(self, n: int) -> Tokens:
        """At most the first ``n`` tokens."""
        return Tokens(self.ids[:n], self.roles[:n])

    @property
    def n_prompt(self) -> int:
        """Number of tokens before the response."""
        return sum(1 for role in self.roles if role & (Role.PROMPT | Role.FIRST))

    def after(self, n: int) -> Tokens:
        """All but the first ``n`` tokens."""
        return Tokens(self.ids[n:], self.roles[n:])

    def then_prompt(self, ids: Sequence[int]) -> Tokens:
        """Append the tokens of a further prompt, after an answer; the last one also has the role LAST_PROMPT."""
        roles = [int(Role.PROMPT)] * len(ids)
        if roles:
            roles[-1] |= int(Role.LAST_PROMPT)
        return Tokens(self.ids + tuple(ids), self.roles + tuple(roles))

    def followed_by(self, ids: Sequence[int]) -> Tokens:
        """Append response tokens."""
        return Tokens(self.ids + tuple(ids), self.roles + (int(Role.RESPONSE),) * len(ids))


PACKED_ROW_MULTIPLE = 32
"""Long packed rows are padded to a multiple of this length: processors multiply 1802 rows more slowly than 1824."""


@dataclass(frozen=True)
class Batch:
    """Padded rows, ready for a forward pass.

    Attributes:
        ids: ``(batch, pos)`` token ids.
        roles: ``(batch, pos)`` roles; PAD at padding.
        origin: the batch on the CPU of which this is a copy; None if it is no copy.
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
        """True where the next token is a response token; a row's last position predicts nothing and is left out."""
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
        """The batch on the CPU, where its values can be read without waiting for a device."""
        import torch

        return self.to(torch.device("cpu")) if self.origin is None else self.origin

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        if device == self.ids.device:
            return self
        origin = self if self.ids.device.type == "cpu" else self.origin
        return Batch(self.ids.to(device), self.roles.to(device), origin)


def n_end_padding(n_tokens: int) -> int:
    """Number of padding tokens at the end of a packed row; 0 where they could be more than a sixteenth of it."""
    return -n_tokens % PACKED_ROW_MULTIPLE if n_tokens >= 16 * PACKED_ROW_MULTIPLE else 0


def pad(rows: Sequence[Tokens], pad_id: int, side: Literal["left", "right"] = "right") -> Batch:
    """Stack rows of different lengths; padding has role PAD.

    Args:
        rows: the texts, at least one, none empty.
        pad_id: the id at padding; it has no influence.
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
"""Bits 0–7 of a role tensor hold the role; bits from 8 up hold an optional text id."""


def with_text_ids(rows: Sequence[Tokens]) -> list[Tokens]:
    """Give every text an id, counted from 1, that edits can read above :data:`ROLE_BITS` bits of its tokens' roles.

    Texts with different ids are never packed onto a common prefix, even if they begin with the same tokens. Edits that
    compute over all tokens of a pass, such as mean energies, therefore see every token of every text.
    """
    return [
        Tokens(row.ids, tuple(role | number << ROLE_BITS for role in row.roles))
        for number, row in enumerate(rows, 1)
    ]


def by_length(rows: Sequence[Sized], max_tokens: int) -> list[list[int]]:
    """Plan batches of texts of similar length, as indices of ``rows``: at most ``max_tokens`` each when padded.

    The plan depends on lengths only, so that every checkpoint and every arm computes the same batches.
    """
    order = sorted(range(len(rows)), key=lambda index: (-len(rows[index]), index))
    plan: list[list[int]] = []
    for index in order:
        if plan and (len(plan[-1]) + 1) * len(rows[plan[-1][0]]) <= max_tokens:
            plan[-1].append(index)
        else:
            plan.append([index])
    return plan
