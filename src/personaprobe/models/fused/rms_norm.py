"""RMS norms in one pass: as models write them, the stream is read and written half a dozen times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from personaprobe.compute.equivalence import equivalent_modules
from personaprobe.models.backends.shared_blocks import all_replaced
from personaprobe.models.fused.elementwise import MANY, compiled, rms_norm

if TYPE_CHECKING:
    from torch import Tensor, nn


class FusedNorms:
    """A model's RMS norms, of those kinds that torch's own kernel is found to agree with.

    Some kinds scale by one more than their weight, or in another dtype than they are given.
    """

    def __init__(self, model: nn.Module, *, compiles: bool = False) -> None:
        self._compiles = compiles
        norms = [module for module in model.modules() if _is_rms(module)]
        self._norms = equivalent_modules(norms, _fused, lambda norm: len(norm.weight))

    def __len__(self) -> int:
        return len(self._norms)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let the norms be computed so."""
        with all_replaced((norm, _fused(norm, compiles=self._compiles)) for norm in self._norms):
            yield


def _is_rms(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    return type(module).__name__.endswith("RMSNorm") and weight is not None and weight.dim() == 1


def _fused(norm: Any, *, compiles: bool = False) -> Callable[[Tensor], Tensor]:
    import torch

    epsilon: Any = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    shape = norm.weight.shape

    def forward(x: Tensor) -> Tensor:
        many = epsilon is not None and not torch.is_grad_enabled() and x.numel() >= MANY * len(norm.weight)
        if many and compiles:
            normed: Tensor = compiled(rms_norm)(x, norm.weight, epsilon)
            return normed
        if many and x.device.type == "cpu":
            scaled: Tensor = _scaled(x, epsilon) * norm.weight
            return scaled
        return torch.nn.functional.rms_norm(x, shape, norm.weight, epsilon)

    return forward


def _scaled(x: Tensor, epsilon: float) -> Tensor:
    """``x / rms(x)``; torch's own on a CPU takes four passes more.

    Batch norm divides each of its channels by a deviation that is told in float32: here every row is a channel.
    """
    import torch

    rows = x.reshape(1, -1, x.shape[-1])
    mean_square = torch.linalg.vector_norm(rows[0], dim=-1, dtype=torch.float32).square_().div_(x.shape[-1])
    none = torch.zeros_like(mean_square)
    return torch.nn.functional.batch_norm(rows, none, mean_square, eps=epsilon).view(x.shape)
