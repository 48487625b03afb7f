"""ReLU dictionaries: an L1 penalty makes activations sparse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from personaprobe.features.sae.activation_functions import ReLU
from personaprobe.features.sae.training.architectures.architecture import Architecture, Losses

if TYPE_CHECKING:
    from torch import Tensor

    from personaprobe.features.sae.training.autoencoder import Autoencoder


@dataclass(frozen=True)
class ReLUArchitecture(Architecture):
    """The plain autoencoder with an L1 penalty on activations, weighted by decoder norms (Bricken et al. 2023).

    All latents are computed: the penalty reaches every active latent.

    Attributes:
        l1: weight of the penalty.
    """

    l1: float = 1.0
    name: ClassVar[str] = "relu"

    @classmethod
    def with_sparsity(cls, k: float, penalty: float, preselect: bool = False) -> Architecture:
        """Weight the L1 penalty by ``penalty``."""
        cls.refuse_preselection(preselect)
        return cls(l1=penalty)

    def losses(self, autoencoder: Autoencoder, x: Tensor, dead: Tensor) -> Losses:
        acts = autoencoder.pre_activations(x).relu()
        reconstruction = acts @ autoencoder.decoder + autoencoder.b_dec
        penalty = (acts * autoencoder.decoder.norm(dim=-1)).sum(-1).mean()
        terms = {"mse": self.reconstruction_error(reconstruction, x), "l1": self.l1 * penalty}
        return Losses(terms, x, reconstruction, (acts > 0).sum(0))

    def activation(self, autoencoder: Autoencoder) -> ReLU:
        return ReLU()
