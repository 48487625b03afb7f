"""Attention in a packed row: each segment attends to itself and to its prefix, and to no other text.

Padding is computed like text and then thrown away, and a mask hides scores only after they have been computed. In
a packed row linear maps see no padding, and attention computes only the scores that count. Attending segment by
segment with PyTorch's kernel is twice as fast on a CPU as our own matrix products were
(``tests/benchmarks/README.md``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from personaprobe.compute.verified import VerifiedKernel
from personaprobe.models.fused.module_patch import attention_patch, patched
from personaprobe.models.packing import flash_attention
from personaprobe.models.packing.segments import Segment

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SEGMENT_ATTENTION = "personaprobe_varlen"
"""Name under which transformers knows this attention."""


@dataclass(frozen=True)
class _PaddedSegment:
    """A segment, the same segment padded for the kernel, and its mask; None for plain causal attention."""

    segment: Segment
    padded: Segment
    mask: Tensor | None


@dataclass(frozen=True)
class _PackedRow:
    """Segments at the start of a row of ``n_tokens``; all blocks share what is computed from them."""

    segments: Sequence[Segment]
    n_tokens: int
    device: torch.device

    @property
    def has_prefixes(self) -> bool:
        """Whether any segment continues another."""
        return any(segment.prefix for segment in self.segments)

    @property
    def end(self) -> int:
        """End of the last segment; tokens behind it are padding."""
        return self.segments[-1].end

    @cached_property
    def padded_segments(self) -> list[_PaddedSegment]:
        return [_pad(segment, self.n_tokens, self.device) for segment in self.segments]

    @cached_property
    def bounds(self) -> flash_attention.VarlenBounds:
        return flash_attention.VarlenBounds.of(self.segments, self.device)


# transformers calls attention functions with tensors alone: the row they belong to travels beside the call
_CURRENT_ROW: ContextVar[_PackedRow] = ContextVar("the packed row of the current pass")


def supports_varlen(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether segments attend separately at no extra cost: on a CPU, and on GPUs whose flash kernels work."""
    if device.type == "cpu":
        return True
    return flash_attention.is_supported(device, dtype) and not any(
        _varlen_kernel(has_prefixes).failed for has_prefixes in (False, True)
    )


@contextmanager
def attention_within_segments(
    config: Any, segments: Sequence[Segment], n_tokens: int, device: torch.device
) -> Iterator[None]:
    """Make a model's blocks attend within segments, in passes over a single row.

    Args:
        config: the model's.
        segments: of the row, one after another from its start.
        n_tokens: length of the row, padding at its end included.
        device: of the row.
    """
    token = _CURRENT_ROW.set(_PackedRow(segments, n_tokens, device))
    try:
        with patched([attention_patch(config, SEGMENT_ATTENTION, current_row_attention)]):
            yield
    finally:
        _CURRENT_ROW.reset(token)


def current_row_attention(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, _: Tensor | None
) -> Tensor:
    """Compute attention of every segment of the current row; the row, not a mask, says what each may see."""
    row = _CURRENT_ROW.get()
    if flash_attention.is_supported(query.device, query.dtype):
        attended: Tensor = _varlen_kernel(row.has_prefixes)(query, key, value, scaling, row)
        return attended
    return attention_per_segment(query, key, value, scaling, row)


@cache
def _varlen_kernel(has_prefixes: bool) -> VerifiedKernel:
    """Flash attention of all segments in one call, verified separately for rows without prefixes and with them.

    A kernel may be right for independent texts and wrong where segments have more keys than queries.
    """

    def one_call(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, row: _PackedRow) -> Tensor:
        return flash_attention.varlen_attention(query, key, value, scaling, row.bounds, row.end)

    return VerifiedKernel(attention_per_segment, lambda: one_call, "flash attention")


def attention_per_segment(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, row: _PackedRow
) -> Tensor:
    """Compute attention segment by segment, ``(1, pos, head, d_value)``; 0 behind the last segment."""
    from torch.nn.functional import scaled_dot_product_attention

    attended = query.new_empty(1, query.shape[2], query.shape[1], value.shape[-1])
    attended[:, row.end :] = 0.0
    for item in row.padded_segments:
        segment, padded = item.segment, item.padded
        part = scaled_dot_product_attention(
            query[:, :, padded.own_slice],
            padded.gather_keys(key),
            padded.gather_keys(value),
            attn_mask=item.mask,
            is_causal=item.mask is None,
            scale=scaling,
            enable_gqa=True,
        )
        # the queries that padding added belong to other segments
        attended[:, segment.own_slice] = part[:, :, : len(segment)].transpose(1, 2)
    return attended


def _pad(segment: Segment, n_tokens: int, device: torch.device) -> _PaddedSegment:
    """Pad a segment, and mask its own tokens causally; its prefix is seen by all of them."""
    import torch

    padded, n_prefix = segment.padded(n_tokens), segment.n_prefix
    n_own = len(padded)
    if not n_prefix:
        return _PaddedSegment(segment, padded, None)
    mask = torch.ones(n_own, n_prefix + n_own, dtype=torch.bool, device=device).tril(n_prefix)
    return _PaddedSegment(segment, padded, mask)
