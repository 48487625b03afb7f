"""Texts of different lengths in one row without padding: each attends to itself, and to what it goes on from.

Padding is computed like text and thrown away, and a mask has every score computed that it then hides. Here tokens of all
texts stand one after another, so that linear maps read no padding, and attention goes stretch by stretch over just the
tokens that each may see: exactly what it would see alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from personaprobe.models.attention import attending_by

if TYPE_CHECKING:
    from torch import Tensor

NAME = "personaprobe_varlen"
"""What transformers calls this way of attending."""

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

    def seen(self, states: Tensor) -> Tensor:
        """Keys or values ``(1, head, pos, d_head)`` of everything that these tokens may look at."""
        import torch

        own = states[:, :, self.here]
        return torch.cat([*(states[:, :, part] for part in self.before), own], 2) if self.before else own


def apart(lengths: Sequence[int]) -> list[Stretch]:
    """Texts of these lengths one after another, none of which sees another."""
    return [Stretch(start, end) for start, end in pairwise(accumulate(lengths, initial=0))]


@dataclass(frozen=True)
class _Reach:
    """A stretch, what is computed along with it, and where its tokens may look; None is at earlier ones only."""

    stretch: Stretch
    longer: Stretch
    mask: Tensor | None


_IN_FLIGHT: ContextVar[Sequence[_Reach]] = ContextVar("stretches of the row in flight")


@contextmanager
def attending(config: Any, stretches: Sequence[Stretch], n: int) -> Iterator[None]:
    """Let a model's blocks attend within a single row of ``n`` tokens that begins with these stretches."""
    token = _IN_FLIGHT.set([_reach(stretch, n) for stretch in stretches])
    try:
        with attending_by(config, NAME, attend):
            yield
    finally:
        _IN_FLIGHT.reset(token)


def attend(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, _: Tensor | None) -> Tensor:
    """Attention of every stretch; what each may look at says who it is, not a mask."""
    from torch.nn.functional import scaled_dot_product_attention

    reaches = _IN_FLIGHT.get()
    seen = query.new_empty(1, query.shape[2], query.shape[1], value.shape[-1])
    seen[:, reaches[-1].stretch.end :] = 0.0  # what fills the row up sees nothing
    for reach in reaches:
        stretch, longer = reach.stretch, reach.longer
        found = scaled_dot_product_attention(
            query[:, :, longer.here],
            longer.seen(key),
            longer.seen(value),
            attn_mask=reach.mask,
            is_causal=reach.mask is None,
            scale=scaling,
            enable_gqa=True,
        )
        seen[:, stretch.here] = found[:, :, : len(stretch)].transpose(1, 2)
    return seen


def _reach(stretch: Stretch, n: int) -> _Reach:
    """Worked out once for all blocks; a token sees what stands before its stretch, itself, and earlier ones."""
    import torch

    longer, before = stretch.longer(n), stretch.n_before
    size = len(longer)
    mask = torch.ones(size, before + size, dtype=torch.bool).tril(before) if before else None
    return _Reach(stretch, longer, mask)
