"""Linear maps on CPUs with their weights laid out once as the kernels want them, in place of anew at every product.

A product of many rows hides what laying out costs; one of few rows, as in every step of decoding, is little else. It is the
same sum, in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from personaprobe.models import kernels
from personaprobe.models.trunk import replaced

if TYPE_CHECKING:
    from torch import Tensor, nn

MOST_BYTES = 2 * 2**30
"""Of weights that are laid out anew: so much memory is taken meanwhile. Maps behind that are left as they are."""

FEW = 192
"""Rows up to which it pays in bfloat16; in float32 it always does."""


class PackedWeights:
    """Packed copies of a model's weights, made where they are first used and dropped when the work is done."""

    def __init__(self, model: nn.Module) -> None:
        import torch

        self._linears = (
            [m for m in model.modules() if type(m) is torch.nn.Linear] if kernels.can_pack() else []
        )
        self._packed: dict[nn.Linear, Tensor] = {}
        self._uses = 0

    @property
    def bytes(self) -> int:
        """What the copies take now."""
        return sum(map(_bytes, self._packed))

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let the maps multiply so; hooks on them still run. One use may lie within another."""
        self._uses += 1
        try:
            with ExitStack() as stack:
                for linear in self._linears if self._uses == 1 else ():
                    stack.enter_context(replaced(linear, self._multiplying(linear)))
                yield
        finally:
            self._uses -= 1
            if not self._uses:
                self.forget()

    def forget(self) -> None:
        """Drop the copies, as must be done whenever weights change."""
        self._packed.clear()

    def _multiplying(self, linear: nn.Linear) -> Callable[[Tensor], Tensor]:
        import torch

        usual = linear.forward

        def forward(x: Tensor) -> Tensor:
            if torch.is_grad_enabled() or not _pays(x, linear.weight) or not self._pack(linear):
                return usual(x)
            return kernels.multiply(x, self._packed[linear], linear.bias)

        return forward

    def _pack(self, linear: nn.Linear) -> bool:
        """Whether there is a copy, or there is now."""
        if linear in self._packed:
            return True
        if self.bytes + _bytes(linear) > MOST_BYTES:
            return False
        self._packed[linear] = kernels.packed(linear.weight)
        return True


def _pays(x: Tensor, weight: Tensor) -> bool:
    import torch

    if weight.device.type != "cpu" or x.dtype != weight.dtype or not x.numel():
        return False
    rows = x.numel() // x.shape[-1]
    return weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and rows <= FEW)


def _bytes(linear: nn.Linear) -> int:
    return linear.weight.numel() * linear.weight.element_size()
