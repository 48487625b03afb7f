"""The function that a model's own class applies to the output of its head: a scale, a soft cap, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class LogitScaling:
    """Scale and soft cap of logits; the self-check compares the result with the model's own logits.

    Attributes:
        scale: factor of all logits; 1 changes nothing.
        cap: logits become ``cap · tanh(logits / cap)``; None changes nothing.
    """

    scale: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, config: Any) -> LogitScaling:
        """Read both from a language model's configuration."""
        # Cohere multiplies logits by a number, Granite divides them by one; Gemma 2 and RecurrentGemma name the cap
        scale = getattr(config, "logit_scale", None) or 1 / getattr(config, "logits_scaling", 1)
        cap = getattr(config, "final_logit_softcapping", getattr(config, "logits_soft_cap", None))
        return cls(scale, cap)

    def __call__(self, logits: Float[Tensor, "*any vocab"]) -> Float[Tensor, "*any vocab"]:
        """Scale, then cap."""
        scaled = logits if self.scale == 1 else logits * self.scale
        return scaled if self.cap is None else (scaled / self.cap).tanh() * self.cap
