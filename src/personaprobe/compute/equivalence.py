"""Whether a faster way to compute a part of a model gives what the part itself gives; found by trying one of each kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def agreeing(
    modules: Sequence[Any], faster: Callable[[Any], Callable[[Tensor], Tensor]], width: Callable[[Any], int]
) -> list[Any]:
    """Those modules of whose kind one was found to give the same both ways.

    Args:
        modules: that map ``(row, width)`` to something.
        faster: another forward for a module.
        width: of what a module reads.
    """
    found = {kind: next(m for m in modules if type(m) is kind) for kind in set(map(type, modules))}
    agree = {kind: _agrees(module, faster(module), width(module)) for kind, module in found.items()}
    return [module for module in modules if agree[type(module)]]


def _agrees(module: Any, faster: Callable[[Tensor], Tensor], width: int) -> bool:
    import torch

    weight = next(module.parameters())
    with torch.inference_mode():
        probe = torch.linspace(-3, 2, 2 * width, device=weight.device).view(2, -1).to(weight.dtype)
        return close(module.forward(probe), faster(probe))  # whatever hooks there are


def close(one: Tensor, other: Tensor) -> bool:
    """Whether two results are the same but for rounding."""
    import torch

    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    few = 4 * torch.finfo(one.dtype).eps
    size = float(one.float().abs().max())
    return torch.allclose(one, other, rtol=few, atol=few * max(size, 1e-30))
