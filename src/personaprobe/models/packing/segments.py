"""Where texts of different lengths stand in a row without padding, and what each of them may look at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

KEYS = 16
"""Attention kernels take up to twice as long where keys are not a multiple of this."""


@dataclass(frozen=True)
class Stretch:
    """Tokens of a row that follow each other: they see themselves causally, and all of what they go on from.

    Attributes:
        start, end: where they stand.
        before: where what they go on from stands, in reading order.
    """

    start: int
    end: int
    before: tuple[slice, ...] = ()

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def n_before(self) -> int:
        """Tokens that they go on from."""
        return sum(part.stop - part.start for part in self.before)

    @property
    def here(self) -> slice:
        """The tokens themselves."""
        return slice(self.start, self.end)

    def longer(self, n: int) -> Stretch:
        """The stretch and what follows it in a row of ``n`` tokens, so that kernels find as many keys as they like best.

        Tokens see no later ones, so that those of the stretch see just what they would.
        """
        end = self.end + -(self.n_before + len(self)) % KEYS
        return replace(self, end=min(end, n))

    @property
    def parts(self) -> tuple[slice, ...]:
        """Where everything stands that these tokens may look at."""
        return (*self.before, self.here)

    def seen(self, states: Tensor) -> Tensor:
        """Keys or values ``(1, head, pos, d_head)`` of everything that these tokens may look at."""
        import torch

        if not self.before:
            return states[:, :, self.here]
        return torch.cat([states[:, :, part] for part in self.parts], 2)
