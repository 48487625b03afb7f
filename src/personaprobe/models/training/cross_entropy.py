"""Cross-entropy of the head's logits a part of the tokens at a time, so that logits of a whole batch are never in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

CHUNK = 128
"""Tokens whose logits are computed together."""


class ChunkedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of tokens, given the hidden states that predict them; gradients of these and of the head's weights.

    Logits and their gradient are computed together, and only the gradients of hidden states and weights are kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "token d_model"],
        ids: Int[Tensor, "token"],
        head: Callable[[Tensor], Tensor],
        *weights: Tensor,
    ) -> Float[Tensor, ""]:
        """Nats per token, float32; ``head`` maps hidden states to logits, and ``weights`` of it are trained."""
        total = torch.zeros((), device=hidden.device)
        gradient = torch.empty_like(hidden)
        of_weights = [torch.zeros_like(weight) for weight in weights]
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            with torch.enable_grad():
                leaf = hidden[part].detach().requires_grad_()
                logits = head(leaf).float()
            log_probs = logits.detach().log_softmax(-1)
            of_token = ids[part, None]
            total -= log_probs.gather(1, of_token).sum()
            # the gradient of the logits: probabilities, less one at each token's own
            of_logits = log_probs.exp_().scatter_add_(
                1, of_token, torch.full_like(of_token, -1.0, dtype=torch.float32)
            )
            gradient[part], *more = torch.autograd.grad(logits, [leaf, *weights], of_logits)
            for of_weight, of_part in zip(of_weights, more, strict=True):
                of_weight.add_(of_part)
        ctx.save_for_backward(gradient, *of_weights)
        return total / len(hidden)

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, ""]) -> tuple[Tensor | None, ...]:
        """Gradients of the hidden states and of the weights."""
        of_sum, *of_weights = ctx.saved_tensors
        factor = gradient / len(of_sum)
        return (
            of_sum * factor.to(of_sum.dtype),
            None,
            None,
            *(one * factor.to(one.dtype) for one in of_weights),
        )
