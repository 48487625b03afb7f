"""Kernels of ours in place of plain functions: Triton's on GPUs, Numba's on CPUs, proven to find the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from personaprobe.compute import openmp
from personaprobe.compute.equivalence import equal_up_to_rounding
from personaprobe.compute.verified import VerifiedKernel

if TYPE_CHECKING:
    from torch import Tensor

KERNELS = {"Triton": "triton_kernels", "Numba": "numba_kernels"}
"""Modules that hold them, under the names of the plain functions."""


@cache
def compiled(
    plain: Callable[..., Any], maker: str, agree: Callable[[Any, Any], bool] = equal_up_to_rounding
) -> Callable[..., Any]:
    """A function as one of our kernels computes it.

    Args:
        plain: the function.
        maker: what compiles the kernel.
        agree: whether two results are as good as each other.
    """

    def make() -> Callable[..., Any]:
        kernel: Callable[..., Any] = getattr(import_module(f"{__package__}.{KERNELS[maker]}"), plain.__name__)
        return kernel

    return VerifiedKernel(plain, make, maker, agree)


def fits_triton(x: Tensor) -> bool:
    """Whether kernels of Triton's read what is like ``x``."""
    return x.device.type == "cuda" and x.dtype == torch.float32


def fits_numba(x: Tensor, *more: torch.dtype) -> bool:
    """Whether kernels of Numba's that read float32, and ``more``, read what is like ``x``."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, *more)
        and x.is_contiguous()
        and openmp.is_available()
    )
