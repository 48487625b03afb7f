"""Preallocated KV cache: one row for each conversation, written in place, so that conversations enter and leave.

A growing cache, such as transformers' ``DynamicCache``, copies all its keys and values at every step; this one
writes a single position. Rows are filled from the left, so that a token's index in the cache is its position,
whatever the other rows' lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from personaprobe.models.packing.attention import grouped_query_attention

if TYPE_CHECKING:
    import torch
    from jaxtyping import Bool, Int
    from torch import Tensor

CAPACITY_STEP = 64
"""The number of positions is a multiple of this: the cache then grows rarely, and few CUDA graphs serve a generation."""

KV_CACHE_ATTENTION = "personaprobe_kv_cache"
"""Name under which transformers knows attention over this cache."""


def kv_cache_attention(
    query: Tensor, keys: Tensor, values: Tensor, scaling: float | None, mask: Tensor | None
) -> Tensor:
    """Compute attention of one token of every row over its cached positions, ``(row, 1, head, d_value)``."""
    return grouped_query_attention(query, keys, values, scaling, mask).transpose(1, 2)


class CacheView:
    """The part of the cache that one decoding step reads and writes; has the interface of a transformers cache.

    Attributes:
        positions: ``(row,)``: position at which each row writes its token.
        n_positions: positions that attention looks at.
    """

    def __init__(
        self, blocks: Sequence[tuple[Tensor, Tensor]], positions: Int[Tensor, "row"], n_positions: int
    ) -> None:
        """View the first rows of the cache, one for each position given.

        Args:
            blocks: keys and values of every block, ``(row, head, position, d_head)``.
            positions: at which each row writes.
            n_positions: that attention looks at.
        """
        import torch

        self.positions, self.n_positions = positions, n_positions
        self._blocks = blocks
        self._rows = torch.arange(len(positions), device=positions.device)

    def blocked(self, window: int | None = None) -> Bool[Tensor, "row 1 1 position"]:
        """Return the positions a row's token may not attend to: those after its own, and before its window."""
        import torch

        cached = torch.arange(self.n_positions, device=self.positions.device)
        blocked = cached > self.positions[:, None]
        if window is not None:
            blocked |= cached <= self.positions[:, None] - window
        return blocked[:, None, None, :]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one token of each row, and return a block's keys and values; called by the model's blocks."""
        visible = []
        for cached, states in zip(self._blocks[layer_idx], (key_states, value_states), strict=True):
            cached[self._rows, :, self.positions] = states[:, :, 0].to(cached.dtype)
            visible.append(cached[: len(self.positions), :, : self.n_positions])
        return visible[0], visible[1]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of positions before the token of this step; called by the model."""
        return self.n_positions - 1


class KVCache:
    """Keys and values of all blocks for all rows.

    Attributes:
        lengths: number of tokens of every row in use.
        positions: ``(row,)``: position at which each row in use writes its next token.
        generation: how often memory has been allocated; CUDA graphs of an earlier generation write to freed memory.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        """Allocate nothing yet.

        Args:
            device: of the model.
            dtype: of keys and values.
        """
        self.lengths: list[int] = []
        self.generation = 0
        # (row, head, position, d_head) of every block; unused rows and positions hold zeros or stale values
        self._blocks: list[tuple[Tensor, Tensor]] = []
        self._device = device
        self._dtype = dtype
        self._n_positions = 0
        self._reset_positions()

    @property
    def n_positions(self) -> int:
        """Positions in use once every row has its next token."""
        return 1 + max(self.lengths, default=0)

    @property
    def capacity(self) -> tuple[int, int]:
        """Rows and positions that are allocated."""
        rows, _, positions, _ = self._blocks[0][0].shape
        return rows, positions

    def view(self, positions: Tensor | None = None, n_positions: int | None = None) -> CacheView:
        """Return the view of the next step.

        Args:
            positions: at which the first rows write; None for all rows in use.
            n_positions: that attention looks at; None for as many as are in use.
        """
        return CacheView(
            self._blocks, self.positions if positions is None else positions, n_positions or self.n_positions
        )

    def admit(self, lengths: Sequence[int], max_new_tokens: int) -> None:
        """Add rows for new conversations behind those in use.

        Args:
            lengths: of their prompts.
            max_new_tokens: that each may still be fed.
        """
        # rows already in use were admitted with enough positions
        self._n_positions = round_up(max(lengths) + max_new_tokens, CAPACITY_STEP)
        self.lengths += lengths
        self._reset_positions()

    def fill(self, prefilled: Any, rows: Sequence[int], prompt_of_row: Sequence[int]) -> None:
        """Copy prefilled prompts into new rows.

        Args:
            prefilled: a transformers cache with keys and values of distinct prompts, filled from the left.
            rows: to be written.
            prompt_of_row: for each of them, the row of its prompt in ``prefilled``.
        """
        import torch

        self._grow(prefilled)
        targets, sources = (torch.tensor(indices, device=self._device) for indices in (rows, prompt_of_row))
        for block, layer in zip(self._blocks, prefilled.layers, strict=True):
            for cached, states in zip(block, (layer.keys, layer.values), strict=True):
                cached[targets, :, : states.shape[2]] = states[sources].to(self._dtype)

    def keep(self, order: Sequence[int]) -> None:
        """Make row ``order[i]`` row ``i``; only rows whose index changes are copied."""
        import torch

        moved = [(old, new) for new, old in enumerate(order) if old != new]
        if moved:
            sources, targets = (torch.tensor(rows, device=self._device) for rows in zip(*moved, strict=True))
            for cached in chain.from_iterable(self._blocks):
                cached[targets] = cached[sources]
        self.lengths = [self.lengths[old] for old in order]
        self._reset_positions()

    def advance(self) -> None:
        """Count the token that every row has just been fed."""
        self.lengths = [length + 1 for length in self.lengths]
        self.positions += 1

    def _grow(self, prefilled: Any) -> None:
        """Allocate memory, or more of it where the rows in use do not fit; values in use are copied."""
        rows, positions = len(self.lengths), self._n_positions
        if self._blocks:
            old_rows, old_positions = self.capacity
            if old_rows >= rows and old_positions >= positions:
                return
            rows, positions = max(rows, old_rows), max(positions, old_positions)
        self.generation += 1
        for index, layer in enumerate(prefilled.layers):
            old_block = self._blocks[index] if index < len(self._blocks) else (None, None)
            grown = [
                _allocate(old, states, self._dtype, rows, positions)
                for old, states in zip(old_block, (layer.keys, layer.values), strict=True)
            ]
            # block by block, so that old and new memory are held together for one block only
            self._blocks[index : index + 1] = [(grown[0], grown[1])]

    def _reset_positions(self) -> None:
        import torch

        self.positions = torch.tensor(self.lengths, dtype=torch.long, device=self._device)


def round_up(number: int, step: int) -> int:
    """Return the least multiple of ``step`` that is not smaller than ``number``."""
    return -(-number // step) * step


def _allocate(old: Tensor | None, like: Tensor, dtype: torch.dtype, rows: int, positions: int) -> Tensor:
    """Allocate keys or values of one block, and copy the old ones.

    The memory is zeroed: attention multiplies blocked positions by 0, which would turn a stray NaN into the row's result.
    """
    grown = like.new_zeros(rows, like.shape[1], positions, like.shape[3], dtype=dtype)
    if old is not None:
        grown[: old.shape[0], :, : old.shape[2]] = old
    return grown
