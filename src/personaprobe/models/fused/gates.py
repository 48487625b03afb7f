"""Gated MLPs whose activation and gate are applied while the products are written, in place of in passes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from personaprobe.models import kernels
from personaprobe.models.fused.agreement import agreeing
from personaprobe.models.fused.packed_weights import PackedWeights, is_plain
from personaprobe.models.trunk import replaced

if TYPE_CHECKING:
    from torch import Tensor, nn

NAMES = ("gate_proj", "up_proj", "down_proj")

ACTIVATIONS = {"SiLU": ("swish", ""), "SiLUActivation": ("swish", ""), "GELUTanh": ("gelu", "tanh")}
"""By class: what oneDNN calls them."""


class FusedGates:
    """A model's gated MLPs, of those kinds that are found to agree."""

    def __init__(self, model: nn.Module, weights: PackedWeights) -> None:
        self._weights = weights
        self._mlps = agreeing([module for module in model.modules() if _fits(module)], self._fused, _width)

    def __len__(self) -> int:
        return len(self._mlps)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let the MLPs be computed so."""
        with ExitStack() as stack:
            for mlp in self._mlps:
                stack.enter_context(replaced(mlp, self._fused(mlp)))
            yield

    def _fused(self, mlp: Any) -> Callable[[Tensor], Tensor]:
        usual, activation = mlp.forward, ACTIVATIONS[type(mlp.act_fn).__name__]

        def forward(x: Tensor) -> Tensor:
            gate, up = (self._weights.of(x, linear) for linear in (mlp.gate_proj, mlp.up_proj))
            if gate is None or up is None or _watched(mlp):
                own: Tensor = usual(x)
                return own
            opened = kernels.multiply(x, *gate, *activation)
            written: Tensor = mlp.down_proj(kernels.multiply_by(x, opened, *up))
            return written

        return forward


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
