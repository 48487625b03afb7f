"""Gated MLPs whose activation and gate are applied while the matrix products are written.

On a CPU with packed weights, oneDNN applies the activation, and multiplies by the gate, before a product's result
leaves the cache. The two elementwise passes this saves are a tenth of recording's time on processors with AMX
(``tests/benchmarks/README.md``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from personaprobe.compute import onednn
from personaprobe.compute.equivalence import equivalent_modules
from personaprobe.models.fused.elementwise import MIN_ROWS, compiled_elementwise, gelu_gated, silu_gated
from personaprobe.models.fused.module_patch import Patch, forward_patch
from personaprobe.models.fused.packed_linear import PackedWeights, is_exactly_linear

if TYPE_CHECKING:
    from torch import Tensor, nn

MLP_PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
"""Names of an MLP's linear maps in transformers."""


@dataclass(frozen=True)
class Activation:
    """An activation function of gated MLPs.

    Attributes:
        name, algorithm: oneDNN's names of it.
        gated: the function of a gate, times another tensor.
    """

    name: str
    algorithm: str
    gated: Callable[[Tensor, Tensor], Tensor]


ACTIVATIONS = {
    "SiLU": Activation("swish", "", silu_gated),
    "SiLUActivation": Activation("swish", "", silu_gated),
    "GELUTanh": Activation("gelu", "tanh", gelu_gated),
}
"""Activation functions by the name of their module's class."""


class FusedGatedMLPs:
    """The gated MLPs of a model, of those classes whose fused form is found to be equivalent."""

    def __init__(self, model: nn.Module, weights: PackedWeights, *, compiles: bool = False) -> None:
        self._weights = weights
        self._compiles = compiles
        candidates = [module for module in model.modules() if _is_gated_mlp(module)]
        self._mlps = equivalent_modules(candidates, self._fused_forward, _input_width)

    def __len__(self) -> int:
        return len(self._mlps)

    def patches(self) -> Iterator[Patch]:
        """Yield the patches that fuse these MLPs."""
        return (forward_patch(mlp, self._fused_forward(mlp)) for mlp in self._mlps)

    def _fused_forward(self, mlp: Any) -> Callable[[Tensor], Tensor]:
        original = mlp.forward

        def forward(x: Tensor) -> Tensor:
            hidden = None if _has_inner_hooks(mlp) else self._gated_hidden(mlp, x)
            output: Tensor = original(x) if hidden is None else mlp.down_proj(hidden)
            return output

        return forward

    def _gated_hidden(self, mlp: Any, x: Tensor) -> Tensor | None:
        """Compute ``activation(gate) · up``; None where the model's own way is as fast."""
        import torch

        activation = ACTIVATIONS[type(mlp.act_fn).__name__]
        gate, up = (self._weights.get(x, linear) for linear in (mlp.gate_proj, mlp.up_proj))
        if gate is not None and up is not None:
            gated = onednn.linear(x, *gate, activation.name, activation.algorithm)
            return onednn.linear_times(x, gated, *up)
        if torch.is_grad_enabled() or x[..., 0].numel() < MIN_ROWS:
            return None
        if self._compiles:
            hidden: Tensor = compiled_elementwise(activation.gated)(mlp.gate_proj(x), mlp.up_proj(x))
            return hidden
        activated: Tensor = mlp.act_fn(mlp.gate_proj(x))
        # in place: the product of many rows is written once less
        return activated.mul_(mlp.up_proj(x))


def _is_gated_mlp(module: Any) -> bool:
    has_known_activation = type(getattr(module, "act_fn", None)).__name__ in ACTIVATIONS
    return has_known_activation and all(
        is_exactly_linear(getattr(module, name, None)) for name in MLP_PROJECTIONS
    )


def _input_width(mlp: Any) -> int:
    width: int = mlp.gate_proj.in_features
    return width


def _has_inner_hooks(mlp: Any) -> bool:
    """Whether a hook wants an intermediate result that the fused form never writes."""
    parts = (mlp.gate_proj, mlp.up_proj, mlp.act_fn)
    return any(part._forward_hooks or part._forward_pre_hooks for part in parts)
