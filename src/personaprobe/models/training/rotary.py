"""Rotary position embeddings with their gradient: the gradient of a rotation is the rotation by the opposite angle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from personaprobe.models.fused.elementwise import apply_rotary
from personaprobe.models.fused.module_patch import Patch, rotary_patch
from personaprobe.models.fused.rotary import FusedRotaryEmbeddings, RotaryFunction, signed_sines

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn


class Rotation(torch.autograd.Function):
    """Queries or keys, one half of each head rotated against the other; gradient of the states."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Float[Tensor, "batch head pos d_head"],
        cos: Float[Tensor, "batch 1 pos d_head"],
        signed_sin: Float[Tensor, "batch 1 pos d_head"],
    ) -> Float[Tensor, "batch head pos d_head"]:
        """Rotate; the sines of the first half of a head are negated."""
        ctx.save_for_backward(cos, signed_sin)
        return apply_rotary(states, cos, signed_sin)

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "batch head pos d_head"]) -> tuple[Tensor, None, None]:
        """Rotate back."""
        cos, signed_sin = ctx.saved_tensors
        return apply_rotary(gradient, cos, -signed_sin), None, None


def rotary_patches(model: nn.Module) -> Iterator[Patch]:
    """Yield the patches by which an architecture that rotates halves of heads computes as one function."""
    for home, original in FusedRotaryEmbeddings(model).originals():
        yield rotary_patch(home, _with_gradient(original))


def _with_gradient(original: RotaryFunction) -> RotaryFunction:
    # of the last pass: all blocks are given the same sines
    last: list[tuple[Tensor, Tensor]] = []

    def rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        if options or cos.dim() != 3 or (cos.dtype, cos.shape[-1]) != (query.dtype, query.shape[-1]):
            return original(query, key, cos, sin, **options)
        if not last or last[0][0] is not sin:
            first, second = sin.chunk(2, -1)
            if not torch.equal(first, second):  # the opposite rotation would be another
                return original(query, key, cos, sin)
            last[:] = [(sin, signed_sines(sin))]
        angles = (cos[:, None], last[0][1][:, None])
        rotated = (Rotation.apply(states, *angles) for states in (query, key))  # type: ignore[no-untyped-call]
        return next(rotated), next(rotated)

    return rotate
