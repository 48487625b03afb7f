"""Queries, keys and values in one matrix product, since all three read the same input.

Faster where there are few rows, and no slower where there are many (``tests/benchmarks/README.md``; no ratio was kept).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from personaprobe.compute import onednn
from personaprobe.models.fused.module_patch import Patch, forward_patch
from personaprobe.models.fused.packed_linear import PackedWeights, is_exactly_linear

if TYPE_CHECKING:
    from torch import Tensor, nn

QKV_PROJECTIONS = ("q_proj", "k_proj", "v_proj")
"""Names of an attention module's input projections in transformers."""


class FusedQKVProjections:
    """The Q, K and V projections of a model, where they are three linear maps without anything else."""

    def __init__(self, model: nn.Module, weights: PackedWeights) -> None:
        triples = ([getattr(module, name, None) for name in QKV_PROJECTIONS] for module in model.modules())
        self._fused = [_FusedQKV(linears, weights) for linears in triples if _can_fuse(linears)]

    def __len__(self) -> int:
        return len(self._fused)

    def patches(self) -> Iterator[Patch]:
        """Yield the patches that fuse these projections."""
        return (patch for fused in self._fused for patch in fused.patches())

    def clear(self) -> None:
        """Drop results that were computed and not used."""
        for fused in self._fused:
            fused.clear()


class _FusedQKV:
    """Fused Q, K and V projection: calling Q computes all three.

    K and V return the cached result if called with the very tensor that Q was called with, and compute normally
    otherwise.
    """

    def __init__(self, linears: Any, weights: PackedWeights) -> None:
        self._linears = tuple(linears)
        self._weights = weights
        self._input: Tensor | None = None
        self._outputs: dict[nn.Linear, Tensor] = {}

    def patches(self) -> Iterator[Patch]:
        query, *others = self._linears
        yield forward_patch(query, self._compute_all(query))
        for linear in others:
            yield forward_patch(linear, self._take_output(linear))

    def _compute_all(self, query: Any) -> Callable[[Tensor], Tensor]:
        import torch

        original, widths = query.forward, [linear.out_features for linear in self._linears]

        def forward(x: Tensor) -> Tensor:
            self.clear()
            packed = self._weights.get(x, *self._linears)
            if packed is None:
                output: Tensor = original(x)
                return output
            outputs = torch.split(onednn.linear(x, *packed), widths, -1)
            self._input, self._outputs = x, dict(zip(self._linears[1:], outputs[1:], strict=True))
            return outputs[0]

        return forward

    def _take_output(self, linear: Any) -> Callable[[Tensor], Tensor]:
        original = linear.forward

        def forward(x: Tensor) -> Tensor:
            # the same object, not an equal one: comparing values would cost as much as the product
            if x is self._input and linear in self._outputs:
                return self._outputs.pop(linear)
            output: Tensor = original(x)
            return output

        return forward

    def clear(self) -> None:
        self._input, self._outputs = None, {}


def _can_fuse(linears: list[Any]) -> bool:
    return all(map(is_exactly_linear, linears)) and len({linear.bias is None for linear in linears}) == 1
