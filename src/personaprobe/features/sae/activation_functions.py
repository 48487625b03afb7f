"""Activation functions of dictionaries: from pre-activations to sparse latent activations.

Each is a frozen value. A `pointwise` function looks at one latent at a time, so that a few latents can be encoded without
the others. TopK is not pointwise: latents compete.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class ReLU:
    """``max(pre, 0)``, as in the plain sparse autoencoder (Bricken et al. 2023)."""

    pointwise: ClassVar[bool] = True

    def __call__(self, pre: Float[Tensor, "*rows d_sae"]) -> Float[Tensor, "*rows d_sae"]:
        return pre.relu()

    def for_latents(self, latents: Int[Tensor, "latent"]) -> ReLU:
        return self

    def to(self, like: Tensor) -> ReLU:
        return self


@dataclass(frozen=True, eq=False)
class JumpReLU:
    """``pre`` where it exceeds the latent's threshold, else 0 (Rajamanoharan et al. 2024).

    Attributes:
        threshold: ``(d_sae,)``.
    """

    threshold: Float[Tensor, "d_sae"]
    pointwise: ClassVar[bool] = True

    def __call__(self, pre: Float[Tensor, "*rows d_sae"]) -> Float[Tensor, "*rows d_sae"]:
        return pre.relu() * (pre > self.threshold)

    def for_latents(self, latents: Int[Tensor, "latent"]) -> JumpReLU:
        return JumpReLU(self.threshold[latents])

    def to(self, like: Tensor) -> JumpReLU:
        return JumpReLU(self.threshold.to(like))


@dataclass(frozen=True)
class TopK:
    """The ``k`` largest pre-activations of each row that are above 0, else 0 (Gao et al. 2024)."""

    k: int
    pointwise: ClassVar[bool] = False

    def __call__(self, pre: Float[Tensor, "*rows d_sae"]) -> Float[Tensor, "*rows d_sae"]:
        import torch

        values, latents = pre.topk(self.k, dim=-1, sorted=False)
        return torch.zeros_like(pre).scatter_(-1, latents, values.relu())

    def for_latents(self, latents: Int[Tensor, "latent"]) -> TopK:
        raise NotImplementedError("the active latents of a TopK depend on all latents; encode them all")

    def to(self, like: Tensor) -> TopK:
        return self


@dataclass(frozen=True, eq=False)
class Gated:
    """A gate decides whether a latent is active, and a second affine map how strongly (Rajamanoharan et al. 2024).

    ``pre`` is the gate's pre-activation ``x W_enc + b_gate``. Where it is above 0, the activation is
    ``relu(gain * (pre − b_gate) + b_mag)``.
    """

    b_gate: Float[Tensor, "d_sae"]
    gain: Float[Tensor, "d_sae"]
    b_mag: Float[Tensor, "d_sae"]
    pointwise: ClassVar[bool] = True

    def __call__(self, pre: Float[Tensor, "*rows d_sae"]) -> Float[Tensor, "*rows d_sae"]:
        magnitude = ((pre - self.b_gate) * self.gain + self.b_mag).relu()
        return magnitude * (pre > 0)

    def for_latents(self, latents: Int[Tensor, "latent"]) -> Gated:
        return Gated(self.b_gate[latents], self.gain[latents], self.b_mag[latents])

    def to(self, like: Tensor) -> Gated:
        return Gated(self.b_gate.to(like), self.gain.to(like), self.b_mag.to(like))


ActivationFunction: TypeAlias = ReLU | JumpReLU | TopK | Gated
"""Maps pre-activations ``(…, d_sae)`` to activations of the same shape, none below 0. ``for_latents`` restricts it to some
latents; ``to`` moves it to a tensor's device and dtype."""
