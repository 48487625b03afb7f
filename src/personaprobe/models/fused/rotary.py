"""Rotary position embeddings in three passes over queries and keys, in place of five."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from personaprobe.compute.equivalence import equal_up_to_rounding
from personaprobe.models.fused.elementwise import MANY, compiled, rotated, rotated_by_halves

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "apply_rotary_pos_emb"
"""What transformers calls the function in every architecture's own module."""

Rotation: TypeAlias = "Callable[..., tuple[Tensor, Tensor]]"
"""``(query, key, cos, sin) -> (query, key)``; the former are ``(batch, head, pos, d_head)``, the latter without heads."""


class FusedRotations:
    """The functions by which a model's blocks rotate, where they rotate one half of a head against the other."""

    def __init__(self, model: nn.Module, *, compiles: bool = False) -> None:
        self._compiles = compiles
        homes = {sys.modules[type(module).__module__] for module in model.modules()}
        self._homes = [home for home in homes if hasattr(home, NAME) and _agrees(getattr(home, NAME), model)]

    def __len__(self) -> int:
        return len(self._homes)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let blocks rotate so; it computes the same for any other model that does meanwhile."""
        with ExitStack() as stack:
            for home in self._homes:
                own: Rotation = getattr(home, NAME)
                setattr(home, NAME, rotating(own, compiles=self._compiles))
                stack.callback(setattr, home, NAME, own)
            yield


def rotating(usual: Rotation, *, compiles: bool = False) -> Rotation:
    """The same rotation; whatever is asked for besides is left to the usual one."""
    import torch

    signed: list[
        tuple[Tensor, Tensor]
    ] = []  # of the last sines that were seen: all blocks are given the same

    def rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        usually = options or torch.is_grad_enabled()  # or sines in float32, or of a part of a head
        if usually or cos.dim() != 3 or (cos.dtype, cos.shape[-1]) != (query.dtype, query.shape[-1]):
            return usual(query, key, cos, sin, **options)
        if not signed or signed[0][0] is not sin:
            signed[:] = [(sin, _signed(sin))]
        angles = (cos[:, None], signed[0][1][:, None])
        many = compiles and query.shape[0] * query.shape[2] >= MANY
        turn = compiled(rotated_by_halves) if many else rotated
        return turn(query, *angles), turn(key, *angles)

    return rotate


def _signed(sin: Tensor) -> Tensor:
    """Sines with the sign that a rolled head wants."""
    import torch

    first, second = sin.chunk(2, -1)
    return torch.cat((-first, second), -1)


def _agrees(usual: Rotation, model: nn.Module) -> bool:
    """Some kinds rotate neighbours against each other, or only a part of a head."""
    import torch

    like = next(model.parameters())
    draw = torch.Generator().manual_seed(0)
    query, key, cos, sin = (
        torch.randn(shape, generator=draw).to(like)
        for shape in ((1, 2, 3, 8), (1, 1, 3, 8), (1, 3, 8), (1, 3, 8))
    )
    with torch.inference_mode():
        try:
            own = usual(query, key, cos, sin)
        except (TypeError, RuntimeError, ValueError):
            return False
        return all(map(equal_up_to_rounding, own, rotating(usual)(query, key, cos, sin)))
