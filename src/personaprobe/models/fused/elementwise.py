"""Passes over the rows of a model, as a compiler makes one kernel of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from personaprobe.compute.verified import VerifiedKernel

if TYPE_CHECKING:
    from torch import Tensor

MANY = 256
"""Rows from which fewer passes over them are worth dearer calls."""


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """``x / rms(x) · weight``, the mean square in float32."""
    import torch

    exact = x.float()
    scaled = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + epsilon)
    return weight * scaled.to(x.dtype)


def rotated(states: Tensor, cos: Tensor, signed: Tensor) -> Tensor:
    """``states`` turned, one half of a head against the other; sines have the sign that a rolled head wants."""
    turned, half = states * cos, states.shape[-1] // 2
    if states.numel() < MANY * states.shape[-1]:
        return turned.addcmul_(states.roll(half, -1), signed)
    turned[..., :half].addcmul_(states[..., half:], signed[..., :half])
    turned[..., half:].addcmul_(states[..., :half], signed[..., half:])
    return turned


def rotated_by_halves(states: Tensor, cos: Tensor, signed: Tensor) -> Tensor:
    """:func:`rotated`, as a compiler likes it."""
    import torch

    (first, second), (cos_1, cos_2), (sin_1, sin_2) = (each.chunk(2, -1) for each in (states, cos, signed))
    return torch.cat((first * cos_1 + second * sin_1, second * cos_2 + first * sin_2), -1)


def silu_gated(gate: Tensor, up: Tensor) -> Tensor:
    """``silu(gate) · up``."""
    import torch

    return torch.nn.functional.silu(gate) * up


def gelu_gated(gate: Tensor, up: Tensor) -> Tensor:
    """``gelu(gate) · up``, by the hyperbolic tangent."""
    import torch

    return torch.nn.functional.gelu(gate, approximate="tanh") * up


@cache
def compiled(function: Callable[..., Tensor]) -> VerifiedKernel:
    """A function's compiled form, the same for all models."""
    return by_compiler(function)


def by_compiler(function: Callable[..., Tensor]) -> VerifiedKernel:
    """A function that ``torch.compile`` makes one kernel of."""
    import torch

    return VerifiedKernel(function, lambda: torch.compile(function, dynamic=True), "torch.compile")
