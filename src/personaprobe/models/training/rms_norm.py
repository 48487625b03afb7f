"""RMS norm with its gradients in half as many passes over memory as autograd makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from personaprobe.compute.equivalence import equivalent_modules
from personaprobe.models.fused.module_patch import Patch, forward_patch
from personaprobe.models.fused.rms_norm import epsilon_of, is_rms_norm

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn


class RMSNorm(torch.autograd.Function):
    """``x / rms(x) · weight``; gradients of x, and of the weight where it is trained."""

    @staticmethod
    def forward(
        ctx: Any, x: Float[Tensor, "*rows d"], weight: Float[Tensor, "d"], epsilon: float
    ) -> Float[Tensor, "*rows d"]:
        """Compute the norm; the mean square is float32."""
        rows = x.reshape(-1, x.shape[-1])
        norms = torch.linalg.vector_norm(rows, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = norms.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(rows, inverse, weight)
        normed: Tensor = (rows * inverse).to(x.dtype).mul_(weight).view(x.shape)
        return normed

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "*rows d"]) -> tuple[Tensor, Tensor | None, None]:
        """Gradients, computed in float32."""
        rows, inverse, weight = ctx.saved_tensors
        x = rows.float()
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (x * inverse).mul_(gradient.reshape(x.shape)).sum(0).to(weight.dtype)
        scaled = gradient.reshape(x.shape) * weight.float()
        along = torch.linalg.vecdot(scaled, x)[:, None] * inverse.pow(3) / x.shape[-1]
        grad_x = scaled.mul_(inverse).addcmul_(x, along, value=-1.0)
        return grad_x.to(rows.dtype).view(gradient.shape), grad_weight, None


def norm_patches(model: nn.Module) -> Iterator[Patch]:
    """Yield the patches by which a model's RMS norms compute as one function, of those classes that it is equivalent to.

    Args:
        model: from transformers.
    """
    norms = [module for module in model.modules() if is_rms_norm(module) and epsilon_of(module) is not None]
    for norm in equivalent_modules(norms, _forward_of, lambda norm: len(norm.weight)):
        yield forward_patch(norm, _forward_of(norm))


def _forward_of(norm: Any) -> Callable[[Tensor], Tensor]:
    weight, epsilon = norm.weight, epsilon_of(norm)

    def forward(x: Tensor) -> Tensor:
        output: Tensor = RMSNorm.apply(x, weight, epsilon)  # type: ignore[no-untyped-call]
        return output

    return forward
