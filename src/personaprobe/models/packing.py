"""One row for a prompt and all its answers: the prompt is computed once, the answers cannot see each other.

The row is ``[prompt][answer 0][answer 1]…``. Every answer attends to the prompt and to itself, and its positions
start where the prompt ends, so that each token sees exactly what it would see in a row of its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from personaprobe.models.network import Fork
from personaprobe.models.tokens import Batch, Role, Tokens, pad

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor


ANSWERS_A_ROW = 8
"""Answers to one question that are read in one row."""


@dataclass(frozen=True)
class Packed:
    """Forks laid out in rows.

    Attributes:
        batch: ids and roles of the packed rows.
        segments: ``(batch, pos)``: 0 in the prompt, 1, 2, … in the answers, −1 at padding.
        positions: ``(batch, pos)``: position of each token in its own conversation.
    """

    batch: Batch
    segments: Int[Tensor, "batch pos"]
    positions: Int[Tensor, "batch pos"]

    def attention(self, dtype: torch.dtype, n_before: int = 0) -> Float[Tensor, "batch 1 pos seen"]:
        """Who may look at whom, as what is added to attention scores: 0, or the dtype's lowest number.

        A token sees earlier tokens of the prompt and of its own answer, and ``n_before`` cached ones before them.
        """
        import torch

        width = self.segments.shape[1]
        query, key = self.segments[:, :, None], self.segments[:, None, :]
        earlier = torch.ones(width, width, dtype=torch.bool, device=self.segments.device).tril()
        # padding looks at padding: a row of attention without any key would be NaN
        allowed = (earlier & ((key == 0) | (key == query)))[:, None]
        return added_to_scores(torch.nn.functional.pad(~allowed, (n_before, 0)), dtype)

    @cached_property
    def predictions(self) -> tuple[Tensor, Tensor, Tensor]:
        """For every answer token in reading order: its row, the position that predicts it, and its id."""
        import torch

        rows, columns = torch.nonzero(self.segments > 0, as_tuple=True)
        starts = self.positions[rows, columns] == self._prompt_lengths[rows]
        before = torch.where(starts, self._prompt_lengths[rows] - 1, columns - 1)
        return rows, before, self.batch.ids[rows, columns]

    @cached_property
    def _prompt_lengths(self) -> Tensor:
        return (self.segments == 0).sum(-1)


def few_together(keys: Iterable[tuple[int, Hashable]], most: int = ANSWERS_A_ROW) -> list[list[int]]:
    """Indices of the same key together, at most so many at a time: answers to one question that can share its reading."""
    groups: dict[Hashable, list[int]] = {}
    for index, key in keys:
        groups.setdefault(key, []).append(index)
    return [group[i : i + most] for group in groups.values() for i in range(0, len(group), most)]


def added_to_scores(barred: Tensor, dtype: torch.dtype) -> Tensor:
    """What keeps attention from looking where it may not: the dtype's lowest number there, 0 elsewhere."""
    import torch

    return torch.zeros(barred.shape, dtype=dtype, device=barred.device).masked_fill_(
        barred, torch.finfo(dtype).min
    )


def pack(forks: Sequence[Fork], pad_id: int, device: torch.device) -> Packed:
    """Lay forks out side by side, one row each, padded on the right."""
    import torch

    rows = [_row(fork) for fork in forks]
    batch = pad(rows, pad_id)
    width = batch.ids.shape[1]
    segments = torch.full((len(forks), width), -1)
    positions = torch.zeros((len(forks), width), dtype=torch.long)
    for index, fork in enumerate(forks):
        n_prompt = len(fork.prompt)
        lengths = [n_prompt, *map(len, fork.answers)]
        labels = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
        segments[index, : len(fork)] = labels
        starts = [0, *[n_prompt] * len(fork.answers)]
        positions[index, : len(fork)] = torch.cat(
            [torch.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)]
        )
    return Packed(batch.to(device), segments.to(device), positions.to(device))


def common_prefix(prompts: Sequence[Tokens]) -> Tokens:
    """The tokens with which every prompt begins, such as the system message; each prompt keeps at least one more."""
    first = prompts[0]
    most = min(map(len, prompts)) - 1
    same = [
        all(p.ids[i] == first.ids[i] and p.roles[i] == first.roles[i] for p in prompts) for i in range(most)
    ]
    return first.first(same.index(False) if False in same else most)


def without_prefix(fork: Fork, n: int) -> Fork:
    """The fork with the first ``n`` prompt tokens taken off."""
    return Fork(fork.prompt.after(n), fork.answers)


def _row(fork: Fork) -> Tokens:
    answers = tuple(token for answer in fork.answers for token in answer)
    return Tokens(fork.prompt.ids + answers, fork.prompt.roles + (int(Role.RESPONSE),) * len(answers))


def unpack(forks: Sequence[Fork], values: Tensor) -> list[list[Tensor]]:
    """Hand the values of :attr:`Packed.predictions` back to their forks and answers."""
    import torch

    lengths = [len(answer) for fork in forks for answer in fork.answers]
    pieces = iter(torch.split(values, lengths))
    return [[next(pieces) for _ in fork.answers] for fork in forks]
