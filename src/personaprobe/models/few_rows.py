"""Linear maps of few rows, on CPUs: faster with the weights on the left.

A decoding step multiplies a handful of rows by every weight. Libraries split such a product among threads along the rows, of
which there are few; written as ``(W xᵀ)ᵀ`` it is split along the weights. It is the same sum in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from personaprobe.models.trunk import replaced

if TYPE_CHECKING:
    from torch import Tensor, nn

FEW = 96
"""Rows up to which it pays."""


@contextmanager
def weights_first(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let plain linear maps on a CPU multiply few rows so; others, and many rows, are left as they are."""
    import torch

    with ExitStack() as stack:
        for module in modules:
            if type(module) is torch.nn.Linear and module.weight.device.type == "cpu":
                stack.enter_context(replaced(module, _multiplying(module)))
        yield


def _multiplying(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    usual = linear.forward

    def forward(x: Tensor) -> Tensor:
        rows = x.numel() // x.shape[-1]
        if rows > FEW:
            return usual(x)
        product = (linear.weight @ x.reshape(rows, -1).T).T
        if linear.bias is not None:
            product = product + linear.bias
        return product.reshape(*x.shape[:-1], -1)

    return forward
