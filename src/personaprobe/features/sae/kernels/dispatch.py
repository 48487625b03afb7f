"""Choice of kernels: Triton's on GPUs and Numba's on CPUs replace plain functions once they agree with them."""

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
"""Modules with the kernels of each compiler. A kernel has the name of the plain function that it replaces."""


@cache
def compiled_kernel(
    plain: Callable[..., Any], compiler: str, agree: Callable[[Any, Any], bool] = equal_up_to_rounding
) -> Callable[..., Any]:
    """A kernel in place of a plain function, checked against it at its first call.

    Args:
        plain: the function that the kernel replaces.
        compiler: ``Triton`` or ``Numba``.
        agree: whether two results are equivalent.

    Returns:
        A function with the signature of ``plain``. It computes ``plain`` itself, with a warning, if the kernel fails or
        differs.
    """

    def load() -> Callable[..., Any]:
        module = import_module(f"{__package__}.{KERNELS[compiler]}")
        kernel: Callable[..., Any] = getattr(module, plain.__name__)
        return kernel

    return VerifiedKernel(plain, load, compiler, agree)


def fits_triton(x: Tensor) -> bool:
    """Whether the Triton kernels support the device and dtype of ``x``."""
    return x.device.type == "cuda" and x.dtype == torch.float32


def fits_numba(x: Tensor, *other_dtypes: torch.dtype) -> bool:
    """Whether a Numba kernel for float32 and ``other_dtypes`` supports the device, dtype and memory layout of ``x``."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, *other_dtypes)
        and x.is_contiguous()
        and openmp.is_available()
    )
