"""Attention within the segments of a packed row, with gradients.

Inference writes each segment's result into one tensor, which autograd would copy as a whole for every segment. Here
the row is split, and the results are joined. On a CPU the kernel computes in float32: its backward pass takes twice as
long in bfloat16 (of eight texts of 136 tokens 21 ms a block, 11 in float32, on an AMD EPYC with AVX512-BF16).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from personaprobe.models.fused.module_patch import attention_patch, patched
from personaprobe.models.packing.segments import Segment

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

ATTENTION = "personaprobe_training"
"""Name under which transformers knows this attention."""


@contextmanager
def differentiable_attention(
    config: Any, segments: Sequence[Segment], n_tokens: int, device: torch.device
) -> Iterator[None]:
    """Make a model's blocks attend within segments, in passes over a single row that have gradients.

    Args:
        config: the model's.
        segments: of the row, one after another from its start; prefixes are whole segments.
        n_tokens: length of the row; tokens behind the last segment are padding.
        device: of the row.
    """
    row = _SplitRow(segments, n_tokens, device)
    with patched([attention_patch(config, ATTENTION, row.attend)]):
        yield


class _SplitRow:
    """A packed row as pieces: of which earlier pieces each reads, and under which mask."""

    def __init__(self, segments: Sequence[Segment], n_tokens: int, device: torch.device) -> None:
        place = {segment.start: number for number, segment in enumerate(segments)}
        self._reads = [[place[part.start] for part in segment.key_slices] for segment in segments]
        self._masks = [_mask(segment, device) for segment in segments]
        self._lengths = [*map(len, segments), n_tokens - segments[-1].end]

    def attend(
        self,
        query: Float[Tensor, "1 head pos d_head"],
        key: Float[Tensor, "1 key_head pos d_head"],
        value: Float[Tensor, "1 key_head pos d_value"],
        scaling: float | None,
        _: Tensor | None,
    ) -> Float[Tensor, "1 pos head d_value"]:
        """Attention of every segment to its prefix and itself; 0 at padding."""
        wide = torch.float32 if query.device.type == "cpu" else query.dtype
        queries, keys, values = (
            torch.split(states.to(wide), self._lengths, 2) for states in (query, key, value)
        )
        parts = [
            scaled_dot_product_attention(
                queries[number],
                torch.cat([keys[read] for read in reads], 2) if len(reads) > 1 else keys[number],
                torch.cat([values[read] for read in reads], 2) if len(reads) > 1 else values[number],
                attn_mask=mask,
                is_causal=mask is None,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            )
            for number, (reads, mask) in enumerate(zip(self._reads, self._masks, strict=True))
        ]
        padding = parts[0].new_zeros(1, query.shape[1], self._lengths[-1], value.shape[-1])
        return torch.cat([*parts, padding], 2).to(query.dtype).transpose(1, 2)


def _mask(segment: Segment, device: torch.device) -> Tensor | None:
    """None for plain causal attention; a segment with a prefix sees all of it."""
    if not segment.n_prefix:
        return None
    n_own = len(segment)
    return torch.ones(n_own, segment.n_prefix + n_own, dtype=torch.bool, device=device).tril(segment.n_prefix)
