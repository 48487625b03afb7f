"""Segments of a packed row: where each stands, and which earlier segments it continues."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

KEY_MULTIPLE = 16
"""CPU attention kernels take up to twice as long where the number of keys is no multiple of this.

Measured in ``tests/benchmarks/README.md``.
"""


@dataclass(frozen=True)
class Segment:
    """Consecutive tokens of a packed row that attend causally to themselves, and to all of their prefix.

    Attributes:
        start, end: position in the row.
        prefix: slices of the row that the segment continues, in reading order.
    """

    start: int
    end: int
    prefix: tuple[slice, ...] = ()

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def n_prefix(self) -> int:
        """Number of tokens in the prefix."""
        return sum(part.stop - part.start for part in self.prefix)

    @property
    def own_slice(self) -> slice:
        """Slice of the row that holds the segment's own tokens."""
        return slice(self.start, self.end)

    def padded(self, n_tokens: int) -> Segment:
        """Extend the segment over tokens that follow it, until its keys are a multiple of :data:`KEY_MULTIPLE`.

        Attention is causal, so that the segment's own tokens still see only what they saw before.

        Args:
            n_tokens: length of the row, beyond which no segment extends.
        """
        end = self.end + -(self.n_prefix + len(self)) % KEY_MULTIPLE
        return replace(self, end=min(end, n_tokens))

    @property
    def key_slices(self) -> tuple[slice, ...]:
        """Slices of the row that the segment attends to: its prefix, then its own tokens."""
        return (*self.prefix, self.own_slice)

    def gather_keys(self, states: Tensor) -> Tensor:
        """Select from keys or values ``(1, head, pos, d_head)`` of the row those that the segment attends to."""
        import torch

        if not self.prefix:
            return states[:, :, self.own_slice]
        return torch.cat([states[:, :, part] for part in self.key_slices], 2)
