"""Gated MLPs whose activation and gate are applied while the products are written, in place of in passes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from personaprobe.compute import onednn
from personaprobe.compute.equivalence import equivalent_modules
from personaprobe.models.backends.shared_blocks import all_replaced
from personaprobe.models.fused.elementwise import MANY, compiled, gelu_gated, silu_gated
from personaprobe.models.fused.packed_linear import PackedWeights, is_plain

if TYPE_CHECKING:
    from torch import Tensor, nn

NAMES = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Activation:
    """What a gate goes through.

    Attributes:
        name, algorithm: what oneDNN calls it.
        gated: the activation of one tensor times another.
    """

    name: str
    algorithm: str
    gated: Callable[[Tensor, Tensor], Tensor]


ACTIVATIONS = {
    "SiLU": Activation("swish", "", silu_gated),
    "SiLUActivation": Activation("swish", "", silu_gated),
    "GELUTanh": Activation("gelu", "tanh", gelu_gated),
}
"""By class of the module."""


class FusedGates:
    """A model's gated MLPs, of those kinds that are found to agree."""

    def __init__(self, model: nn.Module, weights: PackedWeights, *, compiles: bool = False) -> None:
        self._weights = weights
        self._compiles = compiles
        self._mlps = equivalent_modules(
            [module for module in model.modules() if _fits(module)], self._fused, _width
        )

    def __len__(self) -> int:
        return len(self._mlps)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let the MLPs be computed so."""
        with all_replaced((mlp, self._fused(mlp)) for mlp in self._mlps):
            yield

    def _fused(self, mlp: Any) -> Callable[[Tensor], Tensor]:
        usual = mlp.forward

        def forward(x: Tensor) -> Tensor:
            opened = None if _watched(mlp) else self._opened(mlp, x)
            written: Tensor = usual(x) if opened is None else mlp.down_proj(opened)
            return written

        return forward

    def _opened(self, mlp: Any, x: Tensor) -> Tensor | None:
        """What passes the gate; None where the model's own way is as good."""
        import torch

        activation = ACTIVATIONS[type(mlp.act_fn).__name__]
        gate, up = (self._weights.of(x, linear) for linear in (mlp.gate_proj, mlp.up_proj))
        if gate is not None and up is not None:
            opened = onednn.linear(x, *gate, activation.name, activation.algorithm)
            return onednn.linear_times(x, opened, *up)
        if torch.is_grad_enabled() or x[..., 0].numel() < MANY:
            return None
        if self._compiles:
            gated: Tensor = compiled(activation.gated)(mlp.gate_proj(x), mlp.up_proj(x))
            return gated
        passed: Tensor = mlp.act_fn(mlp.gate_proj(x))
        return passed.mul_(mlp.up_proj(x))


def _fits(module: Any) -> bool:
    known = type(getattr(module, "act_fn", None)).__name__ in ACTIVATIONS
    return known and all(is_plain(getattr(module, name, None)) for name in NAMES)


def _width(mlp: Any) -> int:
    width: int = mlp.gate_proj.in_features
    return width


def _watched(mlp: Any) -> bool:
    """Whether somebody wants to see what never is there on its own."""
    parts = (mlp.gate_proj, mlp.up_proj, mlp.act_fn)
    return any(part._forward_hooks or part._forward_pre_hooks for part in parts)
