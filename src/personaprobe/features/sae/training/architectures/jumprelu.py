"""JumpReLU dictionaries: every latent learns a threshold through a penalty on the number of active latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from personaprobe.features.sae.activation_functions import JumpReLU
from personaprobe.features.sae.training.architectures.architecture import Architecture, Losses

if TYPE_CHECKING:
    from torch import Tensor

    from personaprobe.features.sae.training.autoencoder import Autoencoder


@dataclass(frozen=True)
class JumpReLUArchitecture(Architecture):
    """Thresholds learned through an L0 penalty and straight-through gradients (Rajamanoharan et al. 2024).

    All latents are computed: the gradient of the penalty reaches latents that are almost active.

    Attributes:
        l0: weight of the mean number of active latents.
        bandwidth: width of the kernel that estimates the gradient at the threshold.
        start: initial threshold of every latent, in units of the normalised activations.
    """

    l0: float = 1.0
    bandwidth: float = 0.05
    start: float = 0.05
    name: ClassVar[str] = "jumprelu"

    @classmethod
    def with_sparsity(cls, k: float, penalty: float, preselect: bool = False) -> Architecture:
        """Weight the L0 penalty by ``penalty``."""
        cls.refuse_preselection(preselect)
        return cls(l0=penalty)

    def losses(self, autoencoder: Autoencoder, x: Tensor, dead: Tensor) -> Losses:
        pre_activations = autoencoder.pre_activations(x)
        with (
            torch.no_grad()
        ):  # clamping inside the graph would give a threshold at 0 no gradient: it would stay there
            autoencoder.thresholds.clamp_(min=-self.start)
        threshold = autoencoder.thresholds + self.start
        acts = _Jump.apply(pre_activations, threshold, self.bandwidth)  # type: ignore[no-untyped-call]
        is_active = _Step.apply(pre_activations, threshold, self.bandwidth)  # type: ignore[no-untyped-call]
        reconstruction = acts @ autoencoder.decoder + autoencoder.b_dec
        terms = {
            "mse": self.reconstruction_error(reconstruction, x),
            "l0": self.l0 * is_active.sum(-1).mean(),
        }
        return Losses(terms, x, reconstruction, (acts > 0).sum(0))

    def activation(self, autoencoder: Autoencoder) -> JumpReLU:
        return JumpReLU((autoencoder.thresholds.detach() + self.start).clamp_min(0) * autoencoder.scale)


def _rectangle_kernel(pre_activations: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """1 / bandwidth within half a bandwidth of the threshold, else 0."""
    inside = ((pre_activations - threshold) / bandwidth).abs() < 0.5
    return inside.to(pre_activations) / bandwidth


class _Step(torch.autograd.Function):
    """1 above the threshold, else 0; the kernel estimates the gradient of the threshold."""

    @staticmethod
    def forward(ctx: Any, pre_activations: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre_activations, threshold)
        ctx.bandwidth = bandwidth
        return (pre_activations > threshold).to(pre_activations)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pre_activations, threshold = ctx.saved_tensors
        return None, -(_rectangle_kernel(pre_activations, threshold, ctx.bandwidth) * grad).sum(0), None


class _Jump(torch.autograd.Function):
    """The pre-activation above the threshold, else 0; the kernel estimates the gradient of the threshold."""

    @staticmethod
    def forward(ctx: Any, pre_activations: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre_activations, threshold)
        ctx.bandwidth = bandwidth
        return pre_activations * (pre_activations > threshold)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pre_activations, threshold = ctx.saved_tensors
        kernel = _rectangle_kernel(pre_activations, threshold, ctx.bandwidth)
        return grad * (pre_activations > threshold), -(threshold * kernel * grad).sum(0), None
