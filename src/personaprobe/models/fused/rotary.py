"""Rotary position embeddings in three passes over queries and keys, in place of five.

Not measured on their own; with fused MLPs, QKV projections and norms, and attention by segments, they brought
scoring from 2.3 to 3.7 × the bare model's speed on processors with AMX (commit 3f9827e).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from personaprobe.compute.equivalence import equal_up_to_rounding
from personaprobe.models.fused.elementwise import (
    MIN_ROWS,
    apply_rotary,
    apply_rotary_by_halves,
    compiled_elementwise,
)
from personaprobe.models.fused.module_patch import ROTARY_FUNCTION, Patch, rotary_patch

if TYPE_CHECKING:
    from torch import Tensor, nn

RotaryFunction: TypeAlias = "Callable[..., tuple[Tensor, Tensor]]"
"""``(query, key, cos, sin) -> (query, key)``; queries and keys are ``(batch, head, pos, d_head)``, angles have no heads."""


class FusedRotaryEmbeddings:
    """The rotary embeddings of a model's architecture, where they rotate one half of a head against the other."""

    def __init__(self, model: nn.Module, *, compiles: bool = False) -> None:
        self._compiles = compiles
        modeling = {sys.modules[type(module).__module__] for module in model.modules()}
        self._modeling = [
            home
            for home in modeling
            if hasattr(home, ROTARY_FUNCTION) and _rotates_halves(getattr(home, ROTARY_FUNCTION), model)
        ]

    def __len__(self) -> int:
        return len(self._modeling)

    def originals(self) -> Iterator[tuple[ModuleType, RotaryFunction]]:
        """Yield each module of transformers that rotates by halves, with its function."""
        for home in self._modeling:
            yield home, getattr(home, ROTARY_FUNCTION)

    def patches(self) -> Iterator[Patch]:
        """Yield the patches that fuse these embeddings; other models of the architecture compute the same by them."""
        for home, original in self.originals():
            yield rotary_patch(home, fused_rotary(original, compiles=self._compiles))


def fused_rotary(original: RotaryFunction, *, compiles: bool = False) -> RotaryFunction:
    """Return a fused form of a rotary embedding, which leaves unusual calls to the original."""
    import torch

    # the last sines and their signed form: all blocks of a pass are given the same tensor
    last_sines: list[tuple[Tensor, Tensor]] = []

    def rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        # unusual: other options, gradients, sines in float32, or sines of a part of a head
        is_unusual = options or torch.is_grad_enabled()
        if is_unusual or cos.dim() != 3 or (cos.dtype, cos.shape[-1]) != (query.dtype, query.shape[-1]):
            return original(query, key, cos, sin, **options)
        if not last_sines or last_sines[0][0] is not sin:
            last_sines[:] = [(sin, signed_sines(sin))]
        angles = (cos[:, None], last_sines[0][1][:, None])
        has_many_rows = compiles and query.shape[0] * query.shape[2] >= MIN_ROWS
        apply = compiled_elementwise(apply_rotary_by_halves) if has_many_rows else apply_rotary
        return apply(query, *angles), apply(key, *angles)

    return rotate


def signed_sines(sin: Tensor) -> Tensor:
    """Negate the sines of the first half of a head."""
    import torch

    first, second = sin.chunk(2, -1)
    return torch.cat((-first, second), -1)


def _rotates_halves(original: RotaryFunction, model: nn.Module) -> bool:
    """Whether the fused form gives the same; some architectures rotate neighbouring dimensions, or a part of a head."""
    import torch

    like = next(model.parameters())
    draw = torch.Generator().manual_seed(0)
    query, key, cos, sin = (
        torch.randn(shape, generator=draw).to(like)
        for shape in ((1, 2, 3, 8), (1, 1, 3, 8), (1, 3, 8), (1, 3, 8))
    )
    with torch.inference_mode():
        try:
            expected = original(query, key, cos, sin)
        except (TypeError, RuntimeError, ValueError):
            return False
        return all(map(equal_up_to_rounding, expected, fused_rotary(original)(query, key, cos, sin)))
