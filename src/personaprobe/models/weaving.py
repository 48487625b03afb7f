"""Texts woven into one row without padding: what several of them begin with stands there once.

What a model makes of a token depends on the tokens before it and on nothing behind it. Texts that begin alike (with the same
system message, or the same question before two answers) are a tree; its stretches stand one after another, and every token
sees just those on its way from the root. It is computed as it would be in a row of its own, and what is shared, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from personaprobe.models.attention import added_to_scores
from personaprobe.models.stretches import Stretch
from personaprobe.models.tokens import Batch, Tokens, lacking, pad

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor

SHORTEST = 8
"""Tokens in common below which reading them once is not worth a stretch of its own."""

WIDEST = 2
"""Texts read together take at most so many times the tokens of a batch when they are padded, as what was read of them is."""


@dataclass(frozen=True)
class Woven:
    """Texts in one row.

    Attributes:
        row: ids and roles, filled up at the end.
        positions: ``(1, pos)``: of each token in its own text.
        stretches: in the order in which they stand.
        places: ``(text, pos)``: where each token of each text stands in the row; 0 at padding.
    """

    row: Batch
    positions: Int[Tensor, "1 filled"]
    stretches: tuple[Stretch, ...]
    places: Int[Tensor, "text pos"]

    def spread(self, values: Float[Tensor, "1 filled d"]) -> Float[Tensor, "text pos d"]:
        """Values of the row by text and position; padding is given the first token's."""
        return values[0].index_select(0, self.places.flatten()).view(*self.places.shape, -1)

    def attention(self, dtype: torch.dtype) -> Float[Tensor, "1 1 filled filled"]:
        """Who may look at whom, as what is added to attention scores: 0, or the dtype's lowest number."""
        import torch

        n, device = self.row.ids.shape[1], self.row.ids.device
        allowed = torch.zeros(n, n, dtype=torch.bool, device=device)
        for stretch in self.stretches:
            for part in stretch.before:
                allowed[stretch.here, part] = True
            own = len(stretch)
            allowed[stretch.here, stretch.here] = torch.ones(own, own, dtype=torch.bool, device=device).tril()
        return added_to_scores(~allowed[None, None], dtype)


def weave(batch: Batch, shortest: int = SHORTEST) -> Woven:
    """Weave the texts of a batch that is padded on the right, on its device.

    Args:
        batch: the texts.
        shortest: tokens in common below which they are read with each text; 1 reads nothing twice.
    """
    import torch

    texts = batch.on_cpu
    order = sorted(range(len(texts.ids)), key=texts.ids.tolist().__getitem__)
    stretches, origins, places = _grown(texts, order, shortest)
    source = torch.cat(origins)
    row = torch.nn.functional.pad(source, (0, lacking(len(source)))).to(batch.ids.device)
    filling = torch.arange(len(row), device=row.device) >= len(source)
    ids, roles, positions = (
        values.flatten()[row].masked_fill(filling, 0)[None]
        for values in (
            batch.ids,
            batch.roles,
            torch.arange(texts.ids.shape[1], device=row.device).expand_as(batch.ids),
        )
    )
    return Woven(Batch(ids, roles), positions, tuple(stretches), places.to(row.device))


def _grown(texts: Batch, order: Sequence[int], shortest: int) -> tuple[list[Stretch], list[Tensor], Tensor]:
    """The tree of texts in order: its stretches, where their tokens come from in the padded texts, and ``places``."""
    import torch

    common, width = _in_common(texts, order), texts.ids.shape[1]
    stretches: list[Stretch] = []
    origins: list[Tensor] = []
    places = torch.zeros_like(texts.ids)
    end = 0
    waiting: list[tuple[int, int, int, tuple[slice, ...]]] = [(0, len(order), 0, ())]
    while waiting:
        first, last, depth, before = waiting.pop()
        members = list(order[first:last])
        alone = len(members) == 1
        shared = texts.lengths[members[0]] if alone else min(common[first + 1 : last])
        if not alone and shared - depth < shortest:
            shared = depth
        if shared > depth:
            start, end = end, end + shared - depth
            stretches.append(Stretch(start, end, before))
            origins.append(members[0] * width + torch.arange(depth, shared))
            places[members, depth:shared] = torch.arange(start, end)
            before = (*before, slice(start, end))
        if not alone:
            parted = (i for i in range(first + 1, last) if common[i] - shared < shortest)
            waiting += [(*part, shared, before) for part in pairwise((first, *parted, last))]
    return stretches, origins, places


def _in_common(texts: Batch, order: Sequence[int]) -> list[int]:
    """With how many of the same tokens each text begins as the one before it in an order; none for the first."""
    ids, roles = texts.ids[list(order)], texts.roles[list(order)]
    same = (ids[1:] == ids[:-1]) & (roles[1:] == roles[:-1]) & (roles[1:] != 0)
    return [0, *same.long().cumprod(-1).sum(-1).tolist()]


def by_beginning(rows: Sequence[Tokens], max_tokens: int, shortest: int = SHORTEST) -> list[list[int]]:
    """Plan batches of texts that begin alike: indices of ``rows``, each batch at most ``max_tokens`` when woven.

    The plan depends on the texts alone, so that every checkpoint reads the same batches.
    """
    if not rows:
        return []
    order = sorted(range(len(rows)), key=lambda index: rows[index].ids)
    common = _in_common(pad(rows, pad_id=0), order)
    plan: list[list[int]] = []
    woven = longest = 0
    for index, shared in zip(order, common, strict=True):
        own = len(rows[index])
        more = own - (shared if shared >= shortest else 0)
        longest = max(longest, own)
        fits = (
            woven + more <= max_tokens and longest * (len(plan[-1]) + 1) <= WIDEST * max_tokens
            if plan
            else False
        )
        if fits:
            plan[-1].append(index)
            woven += more
        else:
            plan.append([index])
            woven = longest = own
    return plan
