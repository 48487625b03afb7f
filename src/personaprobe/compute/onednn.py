"""Linear maps on CPUs whose weights are laid out once as the kernels want them, with what follows them in the same pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from personaprobe.compute.hardware import is_faster_in_bf16

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether weights of a dtype can be packed here; found by packing a few.

    Some builds of torch lack what it keeps for its own compiler, and processors without AVX512 pack no bfloat16.
    """
    import torch

    compiled: Any = torch.ops.mkldnn
    names = ("_linear_pointwise", "_reorder_linear_weight")
    if not (torch._C._has_mkldnn and all(hasattr(compiled, name) for name in names)):
        return False
    few = torch.ones(16, 16, dtype=dtype)
    try:
        with torch.inference_mode():
            multiply(few, packed(few), None)
    except RuntimeError:
        return False
    return True


@cache
def multiplies_bf16() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32; found out once."""
    return is_faster_in_bf16()


@cache
def has_wide_vectors() -> bool:
    """Whether torch's kernels add up sixteen float32 numbers at once (AVX512) on this processor."""
    import torch

    return bool(torch.backends.cpu.get_cpu_capability() == "AVX512")


def packed(weight: Tensor) -> Tensor:
    """A copy of weights ``(d_out, d_in)`` on a CPU, for :func:`multiply`."""
    import torch

    laid_out: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
    return laid_out


def multiply(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: str = "none", algorithm: str = ""
) -> Tensor:
    """``activation(x @ weight.T + bias)`` with packed weights; has no gradient.

    Args:
        x: ``(*rows, d_in)``.
        weight: from :func:`packed`.
        bias: ``(d_out,)``.
        activation: as oneDNN calls it, such as ``swish`` or ``gelu``.
        algorithm: how it is computed, where there are several.
    """
    import torch

    product: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise
    return product(x, weight, bias, activation, [], algorithm)


def multiply_by(x: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``(x @ weight.T + bias) * other`` with packed weights; has no gradient."""
    import torch

    product: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise.binary
    return product(x, other, weight, bias, "mul")
