"""A linear map with a LoRA as one differentiable function, in which the frozen weights have no gradient.

PEFT computes the two parts one after the other and adds them: three passes over every output, and the products of the
adapter are kept for the backward pass. Here the adapter's second product is added while it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from personaprobe.models.fused.module_patch import Patch, forward_patch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

ADAPTER = "default"
"""PEFT's name of the one adapter of a model in training."""


class LoraLinear(torch.autograd.Function):
    """``x W^T + bias + scale · x A^T B^T``; gradients of x, A and B."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "*rows d_in"],
        weight: Float[Tensor, "d_out d_in"],
        bias: Float[Tensor, "d_out"] | None,
        lora_a: Float[Tensor, "rank d_in"],
        lora_b: Float[Tensor, "d_out rank"],
        scale: float,
    ) -> Float[Tensor, "*rows d_out"]:
        """Compute the map in the dtype of ``x``; A and B may be kept in a wider one."""
        rows = x.reshape(-1, x.shape[-1])
        a, b = lora_a.to(x.dtype), lora_b.to(x.dtype)
        down = rows @ a.T
        output = torch.nn.functional.linear(rows, weight, bias).addmm_(down, b.T, alpha=scale)
        ctx.save_for_backward(rows, down, weight, lora_a, lora_b)
        ctx.scale = scale
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "*rows d_out"]) -> tuple[Tensor | None, ...]:
        """Gradients of x, A and B, the latter in the dtype that they are kept in."""
        rows, down, weight, lora_a, lora_b = ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        a, b = lora_a.to(rows.dtype), lora_b.to(rows.dtype)
        grad_down = (flat @ b).mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (flat @ weight).addmm_(grad_down, a).view(*gradient.shape[:-1], -1)
        grad_a = (grad_down.T @ rows).to(lora_a.dtype)
        grad_b = (flat.T @ down).mul_(ctx.scale).to(lora_b.dtype)
        return grad_x, None, None, grad_a, grad_b, None


def lora_patches(adapted: Any) -> Iterator[Patch]:
    """Yield the patches by which PEFT's plain LoRA layers compute as one function.

    Args:
        adapted: a PEFT model with one adapter, without dropout.
    """
    for module in adapted.modules():
        if _is_plain_lora(module):
            yield forward_patch(module, _forward_of(module))


def _is_plain_lora(module: Any) -> bool:
    from peft.tuners.lora import Linear

    return (
        type(module) is Linear
        and type(module.get_base_layer()) is torch.nn.Linear
        and list(module.active_adapters) == [ADAPTER]
        and not (module.merged or module.disable_adapters or module.lora_variant)
        and type(module.lora_dropout[ADAPTER]) is torch.nn.Identity
        and not module.lora_bias[ADAPTER]
    )


def _forward_of(module: Any) -> Callable[[Tensor], Tensor]:
    base, scale = module.get_base_layer(), float(module.scaling[ADAPTER])
    a, b = module.lora_A[ADAPTER], module.lora_B[ADAPTER]

    def forward(x: Tensor) -> Tensor:
        output: Tensor = LoraLinear.apply(x, base.weight, base.bias, a.weight, b.weight, scale)  # type: ignore[no-untyped-call]
        return output

    return forward
