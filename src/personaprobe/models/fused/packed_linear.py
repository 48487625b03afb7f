"""Linear maps on CPUs with their weights laid out once as the kernels want them, in place of anew at every product.

A product of many rows hides what laying out costs, though not on every processor; one of few rows, as in every step of
decoding, is little else. It is the same sum, in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from personaprobe.compute import onednn
from personaprobe.compute.hardware import is_faster_in_bf16
from personaprobe.models.backends.shared_blocks import all_replaced

if TYPE_CHECKING:
    from torch import Tensor, nn

MOST_BYTES = 2 * 2**30
"""Of weights that are laid out anew: so much memory is taken meanwhile. Maps behind that are left as they are."""

FEW = 192
"""Rows up to which it pays everywhere. More pay in bfloat16 where the processor multiplies it, and in float32 where there is
AVX512: elsewhere, torch's own product of many rows is a tenth faster."""


class PackedWeights:
    """Packed copies of linear maps, made where they are first used and kept until they are forgotten."""

    def __init__(self) -> None:
        # by the maps that are laid out one below the other: weights, and biases where there are some
        self._copies: dict[tuple[nn.Linear, ...], tuple[Tensor, Tensor | None]] = {}

    @property
    def bytes(self) -> int:
        """What the copies take now."""
        return sum(_bytes(linear) for linears in self._copies for linear in linears)

    def forget(self) -> None:
        """Drop the copies, as must be done whenever weights change."""
        self._copies.clear()

    def of(self, x: Tensor, *linears: nn.Linear) -> tuple[Tensor, Tensor | None] | None:
        """Weights of maps that read the same input, one below the other, and their biases; None where it does not pay.

        Args:
            x: the input, ``(*rows, d_in)``.
            linears: with a bias each, or none.
        """
        import torch

        if torch.is_grad_enabled() or not _pays(x, linears[0].weight):
            return None
        if linears not in self._copies:
            if self.bytes + sum(map(_bytes, linears)) > MOST_BYTES:
                return None
            self._copies[linears] = _laid_out(linears)
        return self._copies[linears]


class PackedLinears:
    """A model's linear maps, each with its own packed weights."""

    def __init__(self, model: nn.Module, weights: PackedWeights) -> None:
        self._linears = [module for module in model.modules() if is_plain(module)]
        self._weights = weights

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let the maps multiply so."""
        with all_replaced((linear, self._multiplying(linear)) for linear in self._linears):
            yield

    def _multiplying(self, linear: Any) -> Callable[[Tensor], Tensor]:
        usual = linear.forward

        def forward(x: Tensor) -> Tensor:
            packed = self._weights.of(x, linear)
            return usual(x) if packed is None else onednn.linear(x, *packed)

        return forward


def is_plain(module: Any) -> bool:
    """Whether a module is a linear map and nothing besides."""
    import torch

    return type(module) is torch.nn.Linear


def _laid_out(linears: Sequence[nn.Linear]) -> tuple[Tensor, Tensor | None]:
    import torch

    if len(linears) == 1:
        return onednn.pack_weight(linears[0].weight), linears[0].bias
    weights: list[Tensor] = [linear.weight for linear in linears]
    biases: list[Tensor] = [linear.bias for linear in linears if linear.bias is not None]
    return onednn.pack_weight(torch.cat(weights)), torch.cat(biases) if biases else None


def _pays(x: Tensor, weight: Tensor) -> bool:
    import torch

    if weight.device.type != "cpu" or x.dtype != weight.dtype or not x.numel():
        return False
    pays_for_many = {torch.float32: onednn.has_avx512, torch.bfloat16: is_faster_in_bf16}
    if weight.dtype not in pays_for_many or not onednn.can_pack(weight.dtype):
        return False
    return x.numel() // x.shape[-1] <= FEW or pays_for_many[weight.dtype]()


def _bytes(linear: nn.Linear) -> int:
    return linear.weight.numel() * linear.weight.element_size()
