"""Attention of all segments of a packed row in one kernel call on GPUs: PyTorch's variable-length flash attention.

Not measured on a GPU; tests compare it with attention segment by segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from personaprobe.models.packing.segments import Segment

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor

MIN_COMPUTE_CAPABILITY = (8, 0)
"""Lowest compute capability of GPUs with flash kernels (Ampere)."""


def is_supported(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device has flash kernels for a dtype."""
    import torch

    half_precision = dtype in (torch.float16, torch.bfloat16)
    return (
        device.type == "cuda"
        and half_precision
        and torch.cuda.get_device_capability(device) >= MIN_COMPUTE_CAPABILITY
    )


@dataclass(frozen=True)
class VarlenBounds:
    """Boundaries of the segments in the form that the kernel takes.

    Attributes:
        queries: cumulative lengths of the segments, from 0.
        keys: cumulative numbers of keys of the segments, from 0.
        max_lengths: the largest number of queries and of keys of one segment.
        key_index: position in the row of each key, segment after segment; None where keys are the row itself.
    """

    queries: Int[Tensor, "segment_and_1"]
    keys: Int[Tensor, "segment_and_1"]
    max_lengths: tuple[int, int]
    key_index: Int[Tensor, "key"] | None

    @classmethod
    def of(cls, segments: Sequence[Segment], device: torch.device) -> VarlenBounds:
        """Compute the boundaries of segments that stand one after another from the start of a row."""
        import torch

        n_queries = [len(segment) for segment in segments]
        n_keys = [segment.n_prefix + len(segment) for segment in segments]

        def cumulative(lengths: list[int]) -> Tensor:
            return torch.tensor(list(accumulate(lengths, initial=0)), dtype=torch.int32, device=device)

        positions = [
            torch.arange(part.start, part.stop) for segment in segments for part in segment.key_slices
        ]
        key_index = None if n_keys == n_queries else torch.cat(positions).to(device)
        return cls(cumulative(n_queries), cumulative(n_keys), (max(n_queries), max(n_keys)), key_index)


def varlen_attention(
    query: Float[Tensor, "1 head pos d_head"],
    key: Float[Tensor, "1 key_head pos d_head"],
    value: Float[Tensor, "1 key_head pos d_head"],
    scaling: float | None,
    bounds: VarlenBounds,
    end: int,
) -> Float[Tensor, "1 pos head d_head"]:
    """Let every segment attend causally to itself and to all of its prefix.

    Args:
        query: of the whole row.
        key: of the whole row.
        value: of the whole row.
        scaling: factor of the scores; None for ``1 / √d_head``.
        bounds: boundaries of the segments.
        end: end of the last segment; the output is 0 from there on.
    """
    from einops import rearrange
    from torch.nn.attention.varlen import varlen_attn

    queries, keys, values = (
        rearrange(states, "1 head pos d_head -> pos head d_head") for states in (query, key, value)
    )
    if bounds.key_index is not None:
        # a prefix stands once in the row, and once in the keys of every segment that continues it
        keys, values = keys.index_select(0, bounds.key_index), values.index_select(0, bounds.key_index)
    attended: Any = varlen_attn(
        queries,
        keys,
        values,
        bounds.queries,
        bounds.keys,
        *bounds.max_lengths,
        scale=scaling,
        window_size=(
            -1,
            0,
        ),  # causal, aligned at the last key: the prefix is seen by all queries of its segment
        enable_gqa=queries.shape[1] != keys.shape[1],
    )
    # the kernel leaves uninitialised memory behind the last segment, which may hold NaN
    attended[end:] = 0.0
    row: Tensor = attended[None]
    return row
