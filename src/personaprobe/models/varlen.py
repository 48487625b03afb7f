"""Texts of different lengths in one row without padding: each attends to itself alone.

Padding is computed like text and thrown away, and a mask has every score computed that it then hides. Here tokens of all
texts stand one after another, so that linear maps read no padding, and attention goes text by text, causally and without a
mask: exactly what a text alone would see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

NAME = "personaprobe_varlen"
"""What transformers calls this way of attending."""

_LENGTHS: ContextVar[Sequence[int]] = ContextVar("lengths of the texts in flight")


@contextmanager
def attending(config: Any, lengths: Sequence[int]) -> Iterator[None]:
    """Let a model's blocks attend within texts of these lengths, which follow each other in a single row."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
    own = config._attn_implementation
    token = _LENGTHS.set(lengths)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = own
        _LENGTHS.reset(token)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each text; takes and returns what transformers' attention functions do."""
    import torch

    lengths, groups = _LENGTHS.get(), query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    seen = query.new_empty(1, query.shape[2], query.shape[1], value.shape[-1])
    start = 0
    for length in lengths:
        here = slice(start, start + length)
        seen[:, here] = torch.nn.functional.scaled_dot_product_attention(
            query[:, :, here], key[:, :, here], value[:, :, here], is_causal=True, scale=scaling
        ).transpose(1, 2)
        start += length
    return seen, None
