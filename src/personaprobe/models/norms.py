"""RMS norms in one pass: as models write them, the stream is read and written half a dozen times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from personaprobe.models.trunk import replaced

if TYPE_CHECKING:
    from torch import Tensor, nn


class FusedNorms:
    """A model's RMS norms, of those kinds that torch's own kernel is found to agree with."""

    def __init__(self, model: nn.Module) -> None:
        norms = [module for module in model.modules() if _is_rms(module)]
        agreeing = {
            kind: _agrees(next(n for n in norms if type(n) is kind)) for kind in set(map(type, norms))
        }
        self._norms: Sequence[Any] = [norm for norm in norms if agreeing[type(norm)]]

    def __len__(self) -> int:
        return len(self._norms)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let the norms be computed so; hooks on them still run."""
        with ExitStack() as stack:
            for norm in self._norms:
                stack.enter_context(replaced(norm, _fused(norm)))
            yield


def _is_rms(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    return type(module).__name__.endswith("RMSNorm") and weight is not None and weight.dim() == 1


def _fused(norm: Any) -> Callable[[Tensor], Tensor]:
    from torch.nn.functional import rms_norm

    epsilon = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    shape = norm.weight.shape
    return lambda x: rms_norm(x, shape, norm.weight, epsilon)


def _agrees(norm: Any) -> bool:
    """Some kinds scale by one more than their weight, or in another dtype than they are given."""
    import torch

    weight = norm.weight
    with torch.inference_mode():
        probe = torch.linspace(-3, 2, 2 * len(weight), device=weight.device).view(2, -1).to(weight.dtype)
        own, fused = norm.forward(probe), _fused(norm)(probe)  # whatever hooks there are
    few = 4 * torch.finfo(weight.dtype).eps
    return own.dtype == fused.dtype and torch.allclose(own, fused, rtol=few, atol=few)
