"""Keys and values of conversations in flight: a row each, written in place, so that conversations come and go.

A step of a growing cache copies everything it holds; here it writes one column. Rows are filled from the left, so that a
conversation's slot is its position, whatever its neighbours' lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from personaprobe.models.attention import attended

if TYPE_CHECKING:
    import torch
    from jaxtyping import Bool
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


class Slots:
    """The table of all blocks, in the manner of a transformers cache.

    Attributes:
        lengths: tokens of every row in use.
        rows, ends: indices of those rows, and where each writes its next token.
    """

    def __init__(self, n_layers: int, device: torch.device, dtype: torch.dtype) -> None:
        """Keys and values are kept in ``dtype``."""
        self.lengths: list[int] = []
        # (row, head, column, d_head) of every block; rows and columns not in use hold zeros or what was there before
        self._keys: list[Tensor | None] = [None] * n_layers
        self._values: list[Tensor | None] = [None] * n_layers
        self._device = device
        self._dtype = dtype
        self._columns = 0
        self._settle()

    @property
    def width(self) -> int:
        """Columns in use once every row has its next token."""
        return 1 + max(self.lengths, default=0)

    def admit(self, lengths: Sequence[int], room: int) -> None:
        """Make rows for conversations that enter.

        Args:
            lengths: of their prompts.
            room: tokens that each may still be fed.
        """
        # rows in use have their columns already
        self._columns = -(-(max(lengths) + room) // GROWTH) * GROWTH
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

        targets, sources = (torch.tensor(places, device=self._device) for places in (rows, which))
        for index, layer in enumerate(read.layers):
            for table, new in ((self._keys, layer.keys), (self._values, layer.values)):
                held = _grown(table[index], new, self._dtype, len(self.lengths), self._columns)
                held[targets, :, : new.shape[2]] = new[sources].to(self._dtype)
                table[index] = held

    def keep(self, order: Sequence[int]) -> None:
        """Go on with row ``order[i]`` as row ``i``; only rows that change place are copied."""
        import torch

        moved = [(old, new) for new, old in enumerate(order) if old != new]
        if moved:
            sources, targets = (
                torch.tensor(places, device=self._device) for places in zip(*moved, strict=True)
            )
            for held in (*self._keys, *self._values):
                assert held is not None, "rows come by being admitted"
                held[targets] = held[sources]
        self.lengths = [self.lengths[old] for old in order]
        self._settle()

    def advance(self) -> None:
        """Every row has been fed a token."""
        self.lengths = [length + 1 for length in self.lengths]
        self.ends += 1

    def barred(self, window: int | None = None) -> Bool[Tensor, "row 1 1 column"]:
        """Where a row's next token may not look: behind its end, and before its window."""
        import torch

        columns = torch.arange(self.width, device=self._device)
        barred = columns > self.ends[:, None]
        if window is not None:
            barred |= columns <= self.ends[:, None] - window
        return barred[:, None, None, :]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one token a row at its own end, and return a block's table up to the longest row's; as models call it."""
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        assert keys is not None, "rows come by being admitted"
        assert values is not None
        keys[self.rows, :, self.ends] = key_states[:, :, 0].to(self._dtype)
        values[self.rows, :, self.ends] = value_states[:, :, 0].to(self._dtype)
        n, width = len(self.lengths), self.width
        return keys[:n, :, :width], values[:n, :, :width]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns before the token that is fed; as models call it."""
        return self.width - 1

    def _settle(self) -> None:
        import torch

        self.rows = torch.arange(len(self.lengths), device=self._device)
        self.ends = torch.tensor(self.lengths, dtype=torch.long, device=self._device)


def _grown(old: Tensor | None, like: Tensor, dtype: torch.dtype, rows: int, columns: int) -> Tensor:
    """A buffer of at least so many rows and columns; what is masked must be finite, so that it is made of zeros."""
    if old is not None:
        if old.shape[0] >= rows and old.shape[2] >= columns:
            return old
        rows, columns = max(rows, old.shape[0]), max(columns, old.shape[2])
    made = like.new_zeros(rows, like.shape[1], columns, like.shape[3], dtype=dtype)
    if old is not None:
        made[: old.shape[0], :, : old.shape[2]] = old
    return made
