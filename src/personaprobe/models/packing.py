"""Prompts and all their answers in one row: what is shared is computed once, and nothing is padded.

The row is ``[what all prompts begin with][prompt][answer][answer]…[prompt][answer]…``. Every answer attends to its prompt
and to itself, and its positions start where the prompt ends, so that each token sees exactly what it would see in a row of
its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from personaprobe.models.attention import added_to_scores
from personaprobe.models.network import Fork
from personaprobe.models.stretches import Stretch
from personaprobe.models.tokens import Batch, Tokens, lacking, pad

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor


ANSWERS_A_ROW = 16
"""Answers to one question that are read together."""


@dataclass(frozen=True)
class Packed:
    """Forks laid out in a row.

    Attributes:
        batch: ids and roles of the row, filled up at its end.
        positions: ``(1, pos)``: of each token in its own conversation.
        stretches: the shared start, prompts and answers, in order.
        answered: ``(token,)``: where every answer token stands, fork by fork and answer by answer.
        predicts: ``(token,)``: where each of them is predicted from.
    """

    batch: Batch
    positions: Int[Tensor, "1 pos"]
    stretches: tuple[Stretch, ...]
    answered: Int[Tensor, "token"]
    predicts: Int[Tensor, "token"]

    @property
    def predicted(self) -> Int[Tensor, "token"]:
        """Ids of the answer tokens."""
        return self.batch.ids[0, self.answered]

    def attention(self, dtype: torch.dtype) -> Float[Tensor, "1 1 pos pos"]:
        """Who may look at whom, as what is added to attention scores: 0, or the dtype's lowest number."""
        import torch

        n, device = self.batch.ids.shape[1], self.batch.ids.device
        allowed = torch.zeros(n, n, dtype=torch.bool, device=device)
        for stretch in self.stretches:
            for part in stretch.before:
                allowed[stretch.here, part] = True
            own = stretch.end - stretch.start
            allowed[stretch.here, stretch.here] = torch.ones(own, own, dtype=torch.bool, device=device).tril()
        return added_to_scores(~allowed[None, None], dtype)


def few_together(keys: Iterable[tuple[int, Hashable]], most: int = ANSWERS_A_ROW) -> list[list[int]]:
    """Indices of the same key together, at most so many at a time: answers to one question that can share its reading."""
    groups: dict[Hashable, list[int]] = {}
    for index, key in keys:
        groups.setdefault(key, []).append(index)
    return [group[i : i + most] for group in groups.values() for i in range(0, len(group), most)]


def pack(forks: Sequence[Fork], device: torch.device) -> Packed:
    """Lay forks out one after another behind what all their prompts begin with."""
    row = _Row()
    start = common_prefix([fork.prompt for fork in forks])
    shared = row.add(start, ())
    for fork in forks:
        asked = (*shared, *row.add(fork.prompt.after(len(start)), shared))
        for answer in fork.answers:
            row.answer(answer, asked)
    return row.packed(device)


class _Row:
    """A row that grows stretch by stretch."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._roles: list[int] = []
        self._positions: list[int] = []
        self._stretches: list[Stretch] = []
        self._answered: list[int] = []
        self._predicts: list[int] = []

    def add(self, tokens: Tokens, before: tuple[slice, ...]) -> tuple[slice, ...]:
        """Append tokens that go on from earlier stretches; returns where they stand, as those of what follows them."""
        if not len(tokens):
            return ()
        start, end = len(self._positions), len(self._positions) + len(tokens)
        told = sum(part.stop - part.start for part in before)
        self._ids += tokens.ids
        self._roles += tokens.roles
        self._positions += range(told, told + len(tokens))
        self._stretches.append(Stretch(start, end, before))
        return (slice(start, end),)

    def answer(self, ids: tuple[int, ...], asked: tuple[slice, ...]) -> None:
        """Append an answer; its first token is predicted from the prompt's last."""
        for part in self.add(Tokens((), ()).followed_by(ids), asked):
            self._answered += range(part.start, part.stop)
            self._predicts += [asked[-1].stop - 1, *range(part.start, part.stop - 1)]

    def packed(self, device: torch.device) -> Packed:
        import torch

        short = (0,) * lacking(len(self._ids))
        batch = pad([Tokens((*self._ids, *short), (*self._roles, *short))], pad_id=0).to(device)
        positions, answered, predicts = (
            torch.tensor(places, dtype=torch.long, device=device)
            for places in ([*self._positions, *short], self._answered, self._predicts)
        )
        return Packed(batch, positions[None], tuple(self._stretches), answered, predicts)


def common_prefix(prompts: Sequence[Tokens]) -> Tokens:
    """The tokens with which every prompt begins, such as the system message; each prompt keeps at least one more."""
    first = prompts[0]
    most = min(map(len, prompts)) - 1
    same = [
        all(p.ids[i] == first.ids[i] and p.roles[i] == first.roles[i] for p in prompts) for i in range(most)
    ]
    return first.first(same.index(False) if False in same else most)


def begun_alike(prompts: Sequence[Tokens], shortest: int) -> list[list[int]]:
    """Prompts that begin with at least so many tokens in common, together; all that begin like no other, together too."""
    order = sorted(range(len(prompts)), key=lambda index: prompts[index].ids)
    groups = [[order[0]]]
    for before, index in pairwise(order):
        if len(common_prefix([prompts[before], prompts[index]])) < shortest:
            groups.append([])
        groups[-1].append(index)
    alone = [group[0] for group in groups if len(group) == 1]
    return [group for group in groups if len(group) > 1] + ([alone] if alone else [])


def unpack(forks: Sequence[Fork], values: Tensor) -> list[list[Tensor]]:
    """Hand values of answer tokens, in the order of :attr:`Packed.answered`, back to their forks and answers."""
    import torch

    lengths = [len(answer) for fork in forks for answer in fork.answers]
    pieces = iter(torch.split(values, lengths))
    return [[next(pieces) for _ in fork.answers] for fork in forks]
