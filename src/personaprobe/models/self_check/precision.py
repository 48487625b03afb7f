"""Run a model in float32 for a while: rounding in fewer bits would hide wrong maps and leaks between texts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

from personaprobe.compute.hardware import free_memory

if TYPE_CHECKING:
    from torch import nn

MARGIN = 1.2
"""Free memory must hold so many times what float32 needs in addition."""


def fits_in_float32(model: nn.Module) -> bool:
    """Whether the weights fit into the free memory of their device in float32."""
    further = sum(4 * p.numel() - p.numel() * p.element_size() for p in model.parameters())
    free = free_memory(next(model.parameters()).device)
    return further <= 0 or free is None or MARGIN * further < free


@contextmanager
def in_float32(model: nn.Module) -> Iterator[None]:
    """Hold weights and buffers of fewer bits in float32 inside the block; they come back bit for bit.

    Args:
        model: is changed in place, parameter by parameter, so that at most one is in memory twice.
    """
    import torch

    tensors = {id(t): t for t in chain(model.parameters(), model.buffers())}.values()
    before = [(t, t.dtype) for t in tensors if t.dtype in (torch.bfloat16, torch.float16)]
    try:
        for tensor, _ in before:
            tensor.data = tensor.data.float()
        yield
    finally:
        for tensor, dtype in before:
            tensor.data = tensor.data.to(dtype)
