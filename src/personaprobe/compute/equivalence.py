"""Check that a faster forward pass of a module computes the same as the module itself, by running one of each class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def equivalent_modules(
    modules: Sequence[Any],
    faster_forward: Callable[[Any], Callable[[Tensor], Tensor]],
    input_width: Callable[[Any], int],
) -> list[Any]:
    """Select the modules for whose class the faster forward pass gives the same output.

    Args:
        modules: candidates; each maps ``(row, width)`` to a tensor.
        faster_forward: builds the faster forward pass of a module.
        input_width: width of a module's input.
    """
    # one module of each class is enough: modules of a class differ in their weights only
    examples = {kind: next(m for m in modules if type(m) is kind) for kind in set(map(type, modules))}
    equivalent = {
        kind: _is_equivalent(module, faster_forward(module), input_width(module))
        for kind, module in examples.items()
    }
    return [module for module in modules if equivalent[type(module)]]


def _is_equivalent(module: Any, faster: Callable[[Tensor], Tensor], width: int) -> bool:
    import torch

    weight = next(module.parameters())
    with torch.inference_mode():
        probe = torch.linspace(-3, 2, 2 * width, device=weight.device).view(2, -1).to(weight.dtype)
        # .forward, not a call: hooks on the module must not see the probe
        return equal_up_to_rounding(module.forward(probe), faster(probe))


def equal_up_to_rounding(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors agree to 4 machine epsilons of their dtype, relative to the largest entry of ``first``."""
    import torch

    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    tolerance = 4 * torch.finfo(first.dtype).eps
    largest = float(first.float().abs().max())
    return torch.allclose(first, second, rtol=tolerance, atol=tolerance * max(largest, 1e-30))
