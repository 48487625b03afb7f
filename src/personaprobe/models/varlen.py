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
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NAME = "personaprobe_varlen"
"""What transformers calls this way of attending."""


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

    @property
    def here(self) -> slice:
        """The tokens themselves."""
        return slice(self.start, self.end)

    def seen(self, states: Tensor) -> Tensor:
        """Keys or values ``(1, head, pos, d_head)`` of everything that these tokens may look at."""
        import torch

        own = states[:, :, self.here]
        return torch.cat([*(states[:, :, part] for part in self.before), own], 2) if self.before else own

    @cached_property
    def barred(self) -> Tensor | None:
        """Where they may not look, ``(pos, seen)``; None where that is what causal attention bars anyway."""
        import torch

        if not self.before:
            return None
        n, n_before = self.end - self.start, sum(part.stop - part.start for part in self.before)
        return torch.ones(n, n_before + n, dtype=torch.bool).triu(n_before + 1)


def apart(lengths: Sequence[int]) -> list[Stretch]:
    """Texts of these lengths one after another, none of which sees another."""
    return [Stretch(start, end) for start, end in pairwise(accumulate(lengths, initial=0))]


def added_to_scores(barred: Tensor, dtype: torch.dtype) -> Tensor:
    """What keeps attention from looking where it may not: the dtype's lowest number there, 0 elsewhere."""
    import torch

    return torch.zeros(barred.shape, dtype=dtype, device=barred.device).masked_fill_(
        barred, torch.finfo(dtype).min
    )


_IN_FLIGHT: ContextVar[Sequence[tuple[Stretch, Tensor | None]]] = ContextVar("stretches of the row in flight")


@contextmanager
def attending(config: Any, stretches: Sequence[Stretch], dtype: torch.dtype) -> Iterator[None]:
    """Let a model's blocks attend within a single row that consists of these stretches."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
    masks = (None if s.barred is None else added_to_scores(s.barred, dtype) for s in stretches)
    own = config._attn_implementation
    token = _IN_FLIGHT.set(list(zip(stretches, masks, strict=True)))
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = own
        _IN_FLIGHT.reset(token)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of every stretch; takes and returns what transformers' attention functions do."""
    from torch.nn.functional import scaled_dot_product_attention

    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    seen = query.new_empty(1, query.shape[2], query.shape[1], value.shape[-1])
    for stretch, mask in _IN_FLIGHT.get():
        seen[:, stretch.here] = scaled_dot_product_attention(
            query[:, :, stretch.here],
            stretch.seen(key),
            stretch.seen(value),
            attn_mask=mask,
            is_causal=mask is None,
            scale=scaling,
        ).transpose(1, 2)
    return seen, None
