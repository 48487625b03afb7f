"""Linear maps on CPUs whose weights are packed once, in place of anew at every matrix product.

oneDNN rearranges the weights of every product into its own layout. In a product of many rows that costs little; in
one of few rows, as in every decoding step, it is most of the time. Packed weights make recording a tenth
faster in bfloat16 with AVX512 (commit aab31f1). Together with our attention and one-pass norms they raised
generation of answers of mixed lengths from 1.3 to 1.8 × ``generate``'s speed, and made recording and scoring a
fifth faster in float32 (commit 7801669). The sums are the same, in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from personaprobe.compute import onednn
from personaprobe.compute.hardware import is_faster_in_bf16
from personaprobe.models.fused.module_patch import Patch, forward_patch

if TYPE_CHECKING:
    from torch import Tensor, nn

MAX_PACKED_BYTES = 2 * 2**30
"""Bytes that packed copies may take; linear maps beyond it keep their own weights."""

MAX_ROWS = 192
"""Rows up to which packing is faster on every processor.

More rows are faster in bfloat16 where the processor multiplies it, and in float32 with AVX512. Elsewhere torch's
own product of many rows is a tenth faster (``tests/benchmarks/README.md``).
"""


class PackedWeights:
    """Packed copies of weights, made at first use and kept until :meth:`clear`."""

    def __init__(self) -> None:
        # by the linear maps whose weights are stacked: packed weight, and bias where they have one
        self._copies: dict[tuple[nn.Linear, ...], tuple[Tensor, Tensor | None]] = {}

    @property
    def bytes(self) -> int:
        """Bytes that the copies take."""
        return sum(_n_bytes(linear) for linears in self._copies for linear in linears)

    def clear(self) -> None:
        """Drop the copies; must be called whenever weights change."""
        self._copies.clear()

    def get(self, x: Tensor, *linears: nn.Linear) -> tuple[Tensor, Tensor | None] | None:
        """Return the stacked, packed weights and biases of linear maps that read the same input.

        Args:
            x: the input, ``(*rows, d_in)``.
            linears: all with a bias, or all without.

        Returns:
            None where the maps' own weights are faster, or memory is used up.
        """
        import torch

        if torch.is_grad_enabled() or not _is_faster_packed(x, linears[0].weight):
            return None
        if linears not in self._copies:
            if self.bytes + sum(map(_n_bytes, linears)) > MAX_PACKED_BYTES:
                return None
            self._copies[linears] = _pack(linears)
        return self._copies[linears]


class PackedLinears:
    """The linear maps of a model, each with its own packed weights."""

    def __init__(self, model: nn.Module, weights: PackedWeights) -> None:
        self._linears = [module for module in model.modules() if is_exactly_linear(module)]
        self._weights = weights

    def patches(self) -> Iterator[Patch]:
        """Yield the patches that make these maps use packed weights."""
        return (forward_patch(linear, self._packed_forward(linear)) for linear in self._linears)

    def _packed_forward(self, linear: Any) -> Callable[[Tensor], Tensor]:
        original = linear.forward

        def forward(x: Tensor) -> Tensor:
            packed = self._weights.get(x, linear)
            return original(x) if packed is None else onednn.linear(x, *packed)

        return forward


def is_exactly_linear(module: Any) -> bool:
    """Whether a module is a ``torch.nn.Linear``, and not a subclass that may compute something else."""
    import torch

    return type(module) is torch.nn.Linear


def _pack(linears: Sequence[nn.Linear]) -> tuple[Tensor, Tensor | None]:
    import torch

    if len(linears) == 1:
        return onednn.pack_weight(linears[0].weight), linears[0].bias
    weights: list[Tensor] = [linear.weight for linear in linears]
    biases: list[Tensor] = [linear.bias for linear in linears if linear.bias is not None]
    return onednn.pack_weight(torch.cat(weights)), torch.cat(biases) if biases else None


def _is_faster_packed(x: Tensor, weight: Tensor) -> bool:
    import torch

    if weight.device.type != "cpu" or x.dtype != weight.dtype or not x.numel():
        return False
    is_faster_for_many_rows = {torch.float32: onednn.has_avx512, torch.bfloat16: is_faster_in_bf16}
    if weight.dtype not in is_faster_for_many_rows or not onednn.can_pack(weight.dtype):
        return False
    return x.numel() // x.shape[-1] <= MAX_ROWS or is_faster_for_many_rows[weight.dtype]()


def _n_bytes(linear: nn.Linear) -> int:
    return linear.weight.numel() * linear.weight.element_size()
