"""Elementwise functions over the rows of a model, plain and compiled; compiled, each is one kernel."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from personaprobe.compute.verified import VerifiedKernel

if TYPE_CHECKING:
    from torch import Tensor

MIN_ROWS = 256
"""Rows from which fewer passes over memory save more than their dearer calls cost."""


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Compute ``x / rms(x) · weight``, the mean square in float32."""
    import torch

    x_float = x.float()
    scaled = x_float * torch.rsqrt(x_float.square().mean(-1, keepdim=True) + epsilon)
    return weight * scaled.to(x.dtype)


def apply_rotary(states: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Rotate one half of each head against the other, in three passes over memory.

    Args:
        states: queries or keys, ``(batch, head, pos, d_head)``.
        cos: cosines.
        signed_sin: sines, negated in the first half of a head.
    """
    rotated, half = states * cos, states.shape[-1] // 2
    if states.numel() < MIN_ROWS * states.shape[-1]:
        # few rows: one call more costs more than the copy that roll makes
        return rotated.addcmul_(states.roll(half, -1), signed_sin)
    rotated[..., :half].addcmul_(states[..., half:], signed_sin[..., :half])
    rotated[..., half:].addcmul_(states[..., :half], signed_sin[..., half:])
    return rotated


def apply_rotary_by_halves(states: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Compute :func:`apply_rotary` without writing in place, which a compiler turns into one kernel."""
    import torch

    (first, second), (cos_1, cos_2), (sin_1, sin_2) = (
        tensor.chunk(2, -1) for tensor in (states, cos, signed_sin)
    )
    return torch.cat((first * cos_1 + second * sin_1, second * cos_2 + first * sin_2), -1)


def silu_gated(gate: Tensor, up: Tensor) -> Tensor:
    """Compute ``silu(gate) · up``."""
    import torch

    return torch.nn.functional.silu(gate) * up


def gelu_gated(gate: Tensor, up: Tensor) -> Tensor:
    """Compute ``gelu(gate) · up``, gelu in its tanh approximation."""
    import torch

    return torch.nn.functional.gelu(gate, approximate="tanh") * up


@cache
def compiled_elementwise(function: Callable[..., Tensor]) -> VerifiedKernel:
    """Return the compiled form of a function; all models share it, so that it is compiled once."""
    return compile_verified(function)


def compile_verified(function: Callable[..., Tensor]) -> VerifiedKernel:
    """Compile a function by ``torch.compile`` at its first call, and verify the kernel against the function.

    Models compile by default on CUDA, where the gain has not been measured.
    """
    import torch

    # dynamic: otherwise every new number of rows would be compiled anew
    return VerifiedKernel(function, lambda: torch.compile(function, dynamic=True), "torch.compile")
