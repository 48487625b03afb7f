"""oneDNN's linear maps on CPUs: weights are packed once, and an activation or a product is applied in the same pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether weights of a dtype can be packed on this machine; found by packing a small matrix.

    Some builds of torch lack these operations, which belong to its own compiler, and processors without AVX512
    cannot pack bfloat16.
    """
    import torch

    operations: Any = torch.ops.mkldnn
    names = ("_linear_pointwise", "_reorder_linear_weight")
    if not (torch._C._has_mkldnn and all(hasattr(operations, name) for name in names)):
        return False
    probe = torch.ones(16, 16, dtype=dtype)
    try:
        with torch.inference_mode():
            linear(probe, pack_weight(probe), None)
    except RuntimeError:
        return False
    return True


@cache
def has_avx512() -> bool:
    """Whether torch's CPU kernels use AVX512 on this processor: vectors of sixteen float32 numbers."""
    import torch

    return bool(torch.backends.cpu.get_cpu_capability() == "AVX512")


def pack_weight(weight: Tensor) -> Tensor:
    """Copy a CPU weight ``(d_out, d_in)`` into the memory layout that :func:`linear` reads fastest."""
    import torch

    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
    return packed


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: str = "none", algorithm: str = ""
) -> Tensor:
    """Compute ``activation(x @ weight.T + bias)`` with a packed weight; no gradient.

    Args:
        x: ``(*rows, d_in)``.
        weight: from :func:`pack_weight`.
        bias: ``(d_out,)``.
        activation: oneDNN's name of it, such as ``swish`` or ``gelu``.
        algorithm: variant of the activation, such as ``tanh`` for ``gelu``.
    """
    import torch

    operation: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise
    return operation(x, weight, bias, activation, [], algorithm)


def linear_times(x: Tensor, factor: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute ``(x @ weight.T + bias) * factor`` with a packed weight; no gradient."""
    import torch

    operation: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise.binary
    return operation(x, factor, weight, bias, "mul")
