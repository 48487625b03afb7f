"""Texts of different lengths in one row without padding: each attends to itself, and to what it goes on from.

Padding is computed like text and thrown away, and a mask has every score computed that it then hides. Here tokens of all
texts stand one after another, so that linear maps read no padding, and attention goes stretch by stretch over just the
tokens that each may see: exactly what it would see alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from personaprobe.compute.verified import VerifiedKernel
from personaprobe.models.packing import flash_attention
from personaprobe.models.packing.attention import attending_by
from personaprobe.models.packing.segments import Stretch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NAME = "personaprobe_varlen"
"""What transformers calls this way of attending."""


@dataclass(frozen=True)
class _Reach:
    """A stretch, what is computed along with it, and where its tokens may look; None is at earlier ones only."""

    stretch: Stretch
    longer: Stretch
    mask: Tensor | None


@dataclass(frozen=True)
class _Row:
    """Stretches that begin a row of ``n`` tokens; what all blocks need of them is worked out once."""

    stretches: Sequence[Stretch]
    n: int
    device: torch.device

    @property
    def goes_on(self) -> bool:
        """Whether a stretch looks at others."""
        return any(stretch.before for stretch in self.stretches)

    @property
    def end(self) -> int:
        """Where the last stretch ends, and what fills the row up begins."""
        return self.stretches[-1].end

    @cached_property
    def reaches(self) -> list[_Reach]:
        return [_reach(stretch, self.n, self.device) for stretch in self.stretches]

    @cached_property
    def bounds(self) -> flash_attention.Bounds:
        return flash_attention.Bounds.of(self.stretches, self.device)


_IN_FLIGHT: ContextVar[_Row] = ContextVar("the row in flight")


def keeps_apart(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether stretches are attended to by themselves at no cost: on a CPU, and where flash kernels are and work."""
    if device.type == "cpu":
        return True
    return flash_attention.is_possible(device, dtype) and not any(
        _at_once(goes_on).failed for goes_on in (False, True)
    )


@contextmanager
def attending(config: Any, stretches: Sequence[Stretch], n: int, device: torch.device) -> Iterator[None]:
    """Let a model's blocks attend within a single row of ``n`` tokens that begins with these stretches."""
    token = _IN_FLIGHT.set(_Row(stretches, n, device))
    try:
        with attending_by(config, NAME, attend):
            yield
    finally:
        _IN_FLIGHT.reset(token)


def attend(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, _: Tensor | None) -> Tensor:
    """Attention of every stretch; what each may look at says who it is, not a mask."""
    row = _IN_FLIGHT.get()
    possible = flash_attention.is_possible(query.device, query.dtype)
    found: Tensor = (_at_once(row.goes_on) if possible else attention_in_turn)(
        query, key, value, scaling, row
    )
    return found


@cache
def _at_once(goes_on: bool) -> VerifiedKernel:
    """All stretches in one call, tried first by themselves and first where some look at others."""

    def faster(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, row: _Row) -> Tensor:
        return flash_attention.attend_at_once(query, key, value, scaling, row.bounds, row.end)

    return VerifiedKernel(attention_in_turn, lambda: faster, "flash attention")


def attention_in_turn(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, row: _Row) -> Tensor:
    """Stretch by stretch, ``(1, pos, head, d_value)``; what fills the row up sees nothing."""
    from torch.nn.functional import scaled_dot_product_attention

    seen = query.new_empty(1, query.shape[2], query.shape[1], value.shape[-1])
    seen[:, row.end :] = 0.0
    for reach in row.reaches:
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


def _reach(stretch: Stretch, n: int, device: torch.device) -> _Reach:
    """A token sees what stands before its stretch, itself, and earlier ones."""
    import torch

    longer, before = stretch.longer(n), stretch.n_before
    size = len(longer)
    mask = torch.ones(size, before + size, dtype=torch.bool, device=device).tril(before) if before else None
    return _Reach(stretch, longer, mask)
