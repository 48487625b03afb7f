"""Architectures that choose the active latents outright, and so train with exact sparse gradients."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch

from personaprobe.features.sae.kernels import sparse
from personaprobe.features.sae.kernels.sparse import ActiveLatents
from personaprobe.features.sae.training.architectures.architecture import Architecture, Losses

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from personaprobe.features.sae.training.autoencoder import Autoencoder


class SparseArchitecture(Architecture):
    """An architecture that selects the active latents of each row without a graph.

    Encoding, decoding and all gradients then touch only the active (row, latent) pairs. The loss is the reconstruction
    error, plus ``aux`` times the auxiliary loss of dead latents.
    """

    aux: float

    @classmethod
    def with_sparsity(cls, k: float, penalty: float, preselect: bool = False) -> Architecture:
        """Keep ``k`` latents per row; there is no penalty."""
        return cls(k=k, preselect=preselect)  # type: ignore[call-arg]  # options of the dataclasses below

    @abstractmethod
    def select(
        self, autoencoder: Autoencoder, centred: Float[Tensor, "row d_in"]
    ) -> tuple[ActiveLatents, Tensor]:
        """Choose the active latents, and return their pre-activations."""

    def losses(
        self, autoencoder: Autoencoder, x: Float[Tensor, "row d_in"], dead: Bool[Tensor, "d_sae"]
    ) -> Losses:
        with torch.no_grad():
            centred = x - autoencoder.b_dec
            active, pre_activations = self.select(autoencoder, centred)
        values = sparse.encode(
            centred, autoencoder.b_dec, autoencoder.encoder, autoencoder.b_enc, pre_activations, active
        )
        terms, reconstruction = self.reconstruct(autoencoder, x, values, active)
        if self.aux and bool(dead.any()):
            residual = x - reconstruction.detach()
            terms = {
                **terms,
                "aux": self.aux * auxk_loss(autoencoder, x - autoencoder.b_dec, residual, dead),
            }
        return Losses(terms, x, reconstruction, active.counts)

    def reconstruct(
        self, autoencoder: Autoencoder, x: Tensor, values: Tensor, active: ActiveLatents
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Decode, and return the loss terms of the reconstruction with the reconstruction."""
        reconstruction = sparse.decode(values, autoencoder.decoder, active) + autoencoder.b_dec
        return {"mse": self.reconstruction_error(reconstruction, x)}, reconstruction


def auxk_loss(
    autoencoder: Autoencoder,
    centred: Float[Tensor, "row d_in"],
    residual: Float[Tensor, "row d_in"],
    dead: Bool[Tensor, "d_sae"],
) -> Float[Tensor, ""]:
    """AuxK loss: the error with which dead latents alone reconstruct the residual (Gao et al. 2024, A.2).

    At most ``d_in / 2`` dead latents are used per row. With fewer dead latents the loss shrinks in proportion.
    """
    half_width = centred.shape[1] // 2
    latents = dead.nonzero().squeeze(1)
    pre_activations = torch.addmm(autoencoder.b_enc[latents], centred, autoencoder.encoder[latents].T)
    values, chosen = pre_activations.topk(min(half_width, len(latents)), dim=-1, sorted=False)
    acts = torch.zeros_like(pre_activations).scatter(-1, chosen, values)
    reconstruction = acts @ autoencoder.decoder[latents]
    scale = min(len(latents) / half_width, 1.0)
    return scale * (reconstruction - residual).pow(2).sum(-1).mean()
