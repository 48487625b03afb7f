"""Prompts and all their answers in one row: what is shared is computed once, and nothing is padded."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from personaprobe.models.network import Fork
from personaprobe.models.packing.prefix_tree import Woven, weave
from personaprobe.models.tokens import Tokens, pad

if TYPE_CHECKING:
    import torch
    from jaxtyping import Int
    from torch import Tensor


ANSWERS_A_ROW = 16
"""Answers to one question that are read together."""


@dataclass(frozen=True)
class Packed:
    """Forks woven into a row.

    Attributes:
        woven: the row.
        answered: ``(token,)``: where every answer token stands, fork by fork and answer by answer.
        predicts: ``(token,)``: where each of them is predicted from.
    """

    woven: Woven
    answered: Int[Tensor, "token"]
    predicts: Int[Tensor, "token"]

    @property
    def predicted(self) -> Int[Tensor, "token"]:
        """Ids of the answer tokens."""
        return self.woven.row.ids[0, self.answered]


def few_together(keys: Iterable[tuple[int, Hashable]], most: int = ANSWERS_A_ROW) -> list[list[int]]:
    """Indices of the same key together, at most so many at a time: answers to one question that can share its reading."""
    groups: dict[Hashable, list[int]] = {}
    for index, key in keys:
        groups.setdefault(key, []).append(index)
    return [group[i : i + most] for group in groups.values() for i in range(0, len(group), most)]


def pack(forks: Sequence[Fork], device: torch.device) -> Packed:
    """Weave forks into a row; an answer's first token is predicted from the prompt's last."""
    import torch

    texts = pad([row for fork in forks for row in fork.rows], pad_id=0)
    n_prompt = torch.tensor([len(fork.prompt) for fork in forks for _ in fork.answers])
    answers = texts.mask & (torch.arange(texts.ids.shape[1]) >= n_prompt[:, None])
    woven, where = weave(texts.to(device)), answers.flatten().nonzero().squeeze(1).to(device)
    places = woven.places.flatten()
    return Packed(woven, places[where], places[where - 1])


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
