"""Texts woven into one row without padding: what several of them begin with stands there once.

What a model makes of a token depends on the tokens before it and on nothing behind it. Texts that begin alike (with the same
system message, or the same question before two answers) are a tree; its stretches stand one after another, and every token
sees just those on its way from the root. It is computed as it would be in a row of its own, and what is shared, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from personaprobe.models.packing.attention import added_to_scores
from personaprobe.models.packing.segments import Stretch
from personaprobe.models.tokens import Batch, Tokens, lacking, pad

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor

SHORTEST = 8
"""Tokens in common below which reading them once is not worth a stretch of its own."""

WIDEST = 2
"""What was read is given back padded: texts of a batch take at most so many times its tokens then."""


@dataclass(frozen=True)
class Woven:
    """Texts in one row.

    Attributes:
        row: ids and roles, filled up at the end.
        positions: ``(1, pos)``: of each token in its own text.
        stretches: in the order in which they stand.
        places: ``(text, pos)``: where each token of each text stands in the row; 0 at padding.
        real: ``(token,)``: where padded texts, flattened, have tokens.
    """

    row: Batch
    positions: Int[Tensor, "1 filled"]
    stretches: tuple[Stretch, ...]
    places: Int[Tensor, "text pos"]
    real: Int[Tensor, "token"]

    def spread(self, values: Float[Tensor, "1 filled d"]) -> Float[Tensor, "text pos d"]:
        """Values of the row by text and position; zero at padding."""
        spread = values.new_zeros(self.places.numel(), values.shape[-1])
        spread.index_copy_(0, self.real, values[0].index_select(0, self.places.flatten()[self.real]))
        return spread.view(*self.places.shape, -1)

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


def weave(batch: Batch) -> Woven:
    """Weave the texts of a batch, padded on the right, into a row on its device."""
    import torch

    texts, device = batch.on_cpu, batch.ids.device
    grown = _grown(texts)
    source = torch.cat(grown.origins)
    filled = torch.nn.functional.pad(source, (0, lacking(len(source)))).to(device)
    filling = torch.arange(len(filled), device=device) >= len(source)
    positions = torch.arange(texts.ids.shape[1], device=device).expand_as(batch.ids)
    ids, roles, positions = (
        values.flatten()[filled].masked_fill(filling, 0)[None]
        for values in (batch.ids, batch.roles, positions)
    )
    real = texts.mask.flatten().nonzero().squeeze(1).to(device)
    return Woven(Batch(ids, roles), positions, tuple(grown.stretches), grown.places.to(device), real)


def _grown(texts: Batch) -> _Row:
    """The row of a tree: from the root, texts that go on alike go together until they part."""
    order, common = _in_order(texts)
    row = _Row(texts)
    # neighbours in order, how many of their tokens are in the row, and where
    waiting: list[tuple[int, int, int, tuple[slice, ...]]] = [(0, len(order), 0, ())]
    while waiting:
        first, last, depth, before = waiting.pop()
        members = order[first:last]
        if len(members) == 1:
            row.add(members, depth, texts.lengths[members[0]], before)
            continue
        alike = min(common[first + 1 : last])
        if alike - depth < SHORTEST:
            alike = depth
        before = row.add(members, depth, alike, before)
        parts = (place for place in range(first + 1, last) if common[place] - alike < SHORTEST)
        waiting += [(*part, alike, before) for part in pairwise((first, *parts, last))]
    return row


class _Row:
    """A row that grows stretch by stretch.

    Attributes:
        stretches: so far.
        origins: where the tokens of each stand in the padded texts, flattened.
        places: ``(text, pos)``: where tokens stand in the row.
    """

    def __init__(self, texts: Batch) -> None:
        """Of texts on the CPU; nothing is in the row yet."""
        import torch

        self.stretches: list[Stretch] = []
        self.origins: list[Tensor] = []
        self.places = torch.zeros_like(texts.ids)
        self._end = 0

    def add(self, texts: list[int], start: int, end: int, before: tuple[slice, ...]) -> tuple[slice, ...]:
        """Append tokens from ``start`` to ``end`` that some texts have in common; returns what goes on from them sees."""
        import torch

        if start == end:
            return before
        here = slice(self._end, self._end + end - start)
        self._end = here.stop
        self.stretches.append(Stretch(here.start, here.stop, before))
        self.origins.append(texts[0] * self.places.shape[1] + torch.arange(start, end))
        self.places[texts, start:end] = torch.arange(here.start, here.stop)
        return (*before, here)


def _in_order(texts: Batch) -> tuple[list[int], list[int]]:
    """Indices of texts by their ids, and with how many of the same tokens each begins as the one before it in that order."""
    order = sorted(range(len(texts.ids)), key=texts.ids.tolist().__getitem__)
    ids, roles = texts.ids[order], texts.roles[order]
    same = (ids[1:] == ids[:-1]) & (roles[1:] == roles[:-1]) & (roles[1:] != 0)
    return order, [0, *same.long().cumprod(-1).sum(-1).tolist()]


def by_beginning(rows: Sequence[Tokens], max_tokens: int) -> list[list[int]]:
    """Plan batches of texts that begin alike: indices of ``rows``, each batch about ``max_tokens`` when woven, hardly more.

    The plan depends on the texts alone, so that every checkpoint reads the same batches.
    """
    plan: list[list[int]] = []
    woven = longest = 0
    for index, added in _added(rows):
        own = len(rows[index])
        longest = max(longest, own)
        if plan and woven + added <= max_tokens and longest * (len(plan[-1]) + 1) <= WIDEST * max_tokens:
            plan[-1].append(index)
            woven += added
        else:
            plan.append([index])
            woven = longest = own
    return plan


def n_woven(rows: Sequence[Tokens]) -> int:
    """How many tokens a row of such texts has, but for a few a text that are alike and read apart nevertheless."""
    return sum(added for _, added in _added(rows))


def _added(rows: Sequence[Tokens]) -> Iterator[tuple[int, int]]:
    """Indices of texts in order, and how many tokens each adds to those before it."""
    if not rows:
        return
    for index, n in zip(*_in_order(pad(rows, pad_id=0)), strict=True):
        yield index, len(rows[index]) - (n if n >= SHORTEST else 0)
