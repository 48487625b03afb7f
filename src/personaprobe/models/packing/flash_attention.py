"""Attention of all stretches of a row in one call, as GPUs like it: torch's flash kernel, told where each begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from personaprobe.models.packing.segments import Stretch

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor

OLDEST = (8, 0)
"""Compute capability from which there are flash kernels."""


def is_possible(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device has flash kernels for a dtype."""
    import torch

    halves = (torch.float16, torch.bfloat16)
    return device.type == "cuda" and dtype in halves and torch.cuda.get_device_capability(device) >= OLDEST


@dataclass(frozen=True)
class Bounds:
    """Where stretches begin, as the kernel is told.

    Attributes:
        queries: where each stretch begins, and where the last ends, in the row.
        keys: the same in what they may look at, put one after another.
        longest: queries and keys of one stretch.
        seen: where what they may look at stands in the row; None where it is the row itself.
    """

    queries: Int[Tensor, "stretch_and_1"]
    keys: Int[Tensor, "stretch_and_1"]
    longest: tuple[int, int]
    seen: Int[Tensor, "key"] | None

    @classmethod
    def of(cls, stretches: Sequence[Stretch], device: torch.device) -> Bounds:
        """Of stretches that stand one after another from the beginning of a row."""
        import torch

        queries = [len(stretch) for stretch in stretches]
        keys = [stretch.n_before + len(stretch) for stretch in stretches]

        def bounds(lengths: list[int]) -> Tensor:
            return torch.tensor(list(accumulate(lengths, initial=0)), dtype=torch.int32, device=device)

        seen = [torch.arange(part.start, part.stop) for stretch in stretches for part in stretch.parts]
        again = None if keys == queries else torch.cat(seen).to(device)
        return cls(bounds(queries), bounds(keys), (max(queries), max(keys)), again)


def attend_at_once(
    query: Float[Tensor, "1 head pos d_head"],
    key: Float[Tensor, "1 key_head pos d_head"],
    value: Float[Tensor, "1 key_head pos d_head"],
    scaling: float | None,
    bounds: Bounds,
    end: int,
) -> Float[Tensor, "1 pos head d_head"]:
    """Attention of every stretch to itself, causally, and to all of what it goes on from.

    Args:
        query: of a whole row.
        key: likewise.
        value: likewise.
        scaling: of scores; None is ``1 / √d_head``.
        bounds: where stretches begin.
        end: where the last one ends; what fills the row up sees nothing.
    """
    from torch.nn.attention.varlen import varlen_attn

    own, keys, values = (states[0].transpose(0, 1) for states in (query, key, value))
    if bounds.seen is not None:
        keys, values = keys.index_select(0, bounds.seen), values.index_select(0, bounds.seen)
    found: Any = varlen_attn(
        own,
        keys,
        values,
        bounds.queries,
        bounds.keys,
        *bounds.longest,
        scale=scaling,
        window_size=(-1, 0),  # up to itself, counted from the last key
        enable_gqa=own.shape[1] != keys.shape[1],
    )
    found[end:] = 0.0
    row: Tensor = found[None]
    return row
