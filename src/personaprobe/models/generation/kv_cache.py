"""Keys and values of conversations in flight: a row each, written in place, so that conversations come and go.

A step of a growing cache copies everything it holds; here it writes one column. Rows are filled from the left, so that a
conversation's slot is its position, whatever its neighbours' lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from personaprobe.models.packing.attention import attended

if TYPE_CHECKING:
    import torch
    from jaxtyping import Bool, Int
    from torch import Tensor

GROWTH = 64
"""Columns that a table grows by where a conversation outgrows it."""

NAME = "personaprobe_slots"
"""What transformers calls attention over a table of slots."""


def attend(
    query: Tensor, keys: Tensor, values: Tensor, scaling: float | None, added: Tensor | None
) -> Tensor:
    """A token of every row over its slots."""
    return attended(query, keys, values, scaling, added).transpose(1, 2)


class Reach:
    """What a step sees of a table, and where it writes; in the manner of a transformers cache.

    Attributes:
        ends: ``(row,)``, the column in which each row writes its token.
        width: columns that are looked at.
    """

    def __init__(self, tables: Sequence[tuple[Tensor, Tensor]], ends: Int[Tensor, "row"], width: int) -> None:
        """Of the first rows of every block's table, one for each end."""
        import torch

        self.ends, self.width = ends, width
        self._tables = tables
        self._rows = torch.arange(len(ends), device=ends.device)

    def barred(self, window: int | None = None) -> Bool[Tensor, "row 1 1 column"]:
        """Where a row's token may not look: behind its end, and before its window."""
        import torch

        columns = torch.arange(self.width, device=self.ends.device)
        barred = columns > self.ends[:, None]
        if window is not None:
            barred |= columns <= self.ends[:, None] - window
        return barred[:, None, None, :]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one token a row at its own end, and return a block's table as far as it is looked at; as models call it."""
        seen = []
        for table, states in zip(self._tables[layer_idx], (key_states, value_states), strict=True):
            table[self._rows, :, self.ends] = states[:, :, 0].to(table.dtype)
            seen.append(table[: len(self.ends), :, : self.width])
        return seen[0], seen[1]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns before the token that is fed; as models call it."""
        return self.width - 1


class Slots:
    """The tables of all blocks.

    Attributes:
        lengths: tokens of every row in use.
        ends: where each of those rows writes its next token.
        made: how often tables were made anew.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        """Keys and values are kept in ``dtype``."""
        self.lengths: list[int] = []
        self.made = 0
        # (row, head, column, d_head) of every block; rows and columns not in use hold zeros or what was there before
        self._tables: list[tuple[Tensor, Tensor]] = []
        self._device = device
        self._dtype = dtype
        self._columns = 0
        self._settle()

    @property
    def width(self) -> int:
        """Columns in use once every row has its next token."""
        return 1 + max(self.lengths, default=0)

    @property
    def room(self) -> tuple[int, int]:
        """Rows and columns that the tables have."""
        rows, _, columns, _ = self._tables[0][0].shape
        return rows, columns

    def reach(self, ends: Tensor | None = None, width: int | None = None) -> Reach:
        """What the next step sees: as much as is needed, or as many rows and columns as are asked for."""
        return Reach(self._tables, self.ends if ends is None else ends, width or self.width)

    def admit(self, lengths: Sequence[int], room: int) -> None:
        """Make rows for conversations that enter.

        Args:
            lengths: of their prompts.
            room: tokens that each may still be fed.
        """
        # rows in use have their columns already
        self._columns = rounded_up(max(lengths) + room, GROWTH)
        self.lengths += lengths
        self._settle()

    def fill(self, read: Any, rows: Sequence[int], which: Sequence[int]) -> None:
        """Take over what was read for rows that entered.

        Args:
            read: a transformers cache with keys and values of distinct prompts, filled from the left.
            rows: that are filled.
            which: for each, its prompt in the cache.
        """
        import torch

        self._make_room(read)
        targets, sources = (torch.tensor(places, device=self._device) for places in (rows, which))
        for tables, layer in zip(self._tables, read.layers, strict=True):
            for table, new in zip(tables, (layer.keys, layer.values), strict=True):
                table[targets, :, : new.shape[2]] = new[sources].to(self._dtype)

    def keep(self, order: Sequence[int]) -> None:
        """Go on with row ``order[i]`` as row ``i``; only rows that change place are copied."""
        import torch

        moved = [(old, new) for new, old in enumerate(order) if old != new]
        if moved:
            sources, targets = (
                torch.tensor(places, device=self._device) for places in zip(*moved, strict=True)
            )
            for table in chain.from_iterable(self._tables):
                table[targets] = table[sources]
        self.lengths = [self.lengths[old] for old in order]
        self._settle()

    def advance(self) -> None:
        """Every row has been fed a token."""
        self.lengths = [length + 1 for length in self.lengths]
        self.ends += 1

    def _make_room(self, read: Any) -> None:
        """Make tables, or larger ones where conversations do not fit into those there are."""
        rows, columns = len(self.lengths), self._columns
        if self._tables:
            had_rows, had_columns = self.room
            if had_rows >= rows and had_columns >= columns:
                return
            rows, columns = max(rows, had_rows), max(columns, had_columns)
        self.made += 1
        for index, layer in enumerate(read.layers):
            old = self._tables[index] if index < len(self._tables) else (None, None)
            made = [
                _made(was, like, self._dtype, rows, columns)
                for was, like in zip(old, (layer.keys, layer.values), strict=True)
            ]
            self._tables[index : index + 1] = [(made[0], made[1])]

    def _settle(self) -> None:
        import torch

        self.ends = torch.tensor(self.lengths, dtype=torch.long, device=self._device)


def rounded_up(number: int, step: int) -> int:
    """The least multiple of ``step`` that is no smaller."""
    return -(-number // step) * step


def _made(old: Tensor | None, like: Tensor, dtype: torch.dtype, rows: int, columns: int) -> Tensor:
    """A table of so many rows and columns; what is masked must be finite, so that it is made of zeros."""
    made = like.new_zeros(rows, like.shape[1], columns, like.shape[3], dtype=dtype)
    if old is not None:
        made[: old.shape[0], :, : old.shape[2]] = old
    return made
