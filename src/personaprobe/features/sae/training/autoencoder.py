"""The parameters of a dictionary during training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from personaprobe.features.sae.activation_functions import ActivationFunction
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.kernels.sparse import row_dots
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


class Autoencoder(torch.nn.Module):
    """Encoder, decoder and biases in float32, and statistics about the latents.

    Inputs are divided by ``scale`` first, so that hyperparameters carry over between sites and models. In both matrices
    a latent is a row, so that the gradient of one latent is a row too.

    Attributes:
        encoder, decoder: ``(d_sae, d_in)``; decoder rows have unit norm.
        b_enc: ``(d_sae)``. b_dec: ``(d_in)``, initialised to the mean input.
        thresholds: ``(d_sae)``, learned by JumpReLU alone.
        rows_since_fired: ``(d_sae)``, rows read since each latent was last active.
        threshold: BatchTopK's running threshold.
        scale: root mean square norm of the centred input over the square root of its width.
        smallest_active: smallest activation that BatchTopK kept in the last batch.
    """

    rows_since_fired: Int[Tensor, "d_sae"]
    threshold: Float[Tensor, ""]
    scale: Float[Tensor, ""]

    def __init__(self, d_sae: int, sample: Float[Tensor, "row d_in"], seed: int) -> None:
        """Initialise from a sample of the training rows.

        Args:
            d_sae: number of latents.
            sample: rows as recorded.
            seed: of the decoder's random directions; the encoder starts as the decoder's transpose.
        """
        super().__init__()
        mean = sample.mean(0)
        scale = (sample - mean).pow(2).mean().sqrt()
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(d_sae, sample.shape[1], generator=generator)
        directions /= directions.norm(dim=-1, keepdim=True)
        self.encoder = torch.nn.Parameter(directions.clone())
        self.decoder = torch.nn.Parameter(directions)
        self.b_enc = torch.nn.Parameter(torch.zeros(d_sae))
        self.b_dec = torch.nn.Parameter(mean / scale)
        self.thresholds = torch.nn.Parameter(torch.zeros(d_sae))
        self.register_buffer("rows_since_fired", torch.zeros(d_sae, dtype=torch.long))
        self.register_buffer("threshold", torch.zeros((), dtype=torch.float64))
        self.register_buffer("scale", scale)
        self.smallest_active = 0.0

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return len(self.b_enc)

    def pre_activations(self, x: Float[Tensor, "row d_in"]) -> Float[Tensor, "row d_sae"]:
        """Pre-activations of every latent, with a graph."""
        return torch.addmm(self.b_enc, x - self.b_dec, self.encoder.T)

    def update_threshold(self, smallest_active: float, rate: float) -> None:
        """Shift BatchTopK's threshold towards the smallest activation kept in a batch."""
        self.threshold += rate * (smallest_active - self.threshold)
        self.smallest_active = smallest_active

    @torch.no_grad()
    def count_rows(self, active_counts: Int[Tensor, "d_sae"], n_rows: int) -> None:
        """Update ``rows_since_fired`` with a batch.

        Args:
            active_counts: number of rows in which each latent was active.
            n_rows: rows of the batch.
        """
        self.rows_since_fired += n_rows
        self.rows_since_fired[active_counts > 0] = 0

    def dead(self, after: int) -> Bool[Tensor, "d_sae"]:
        """Latents that were not active in the last ``after`` rows."""
        return self.rows_since_fired >= after

    @torch.no_grad()
    def project_gradient(self) -> None:
        """Remove the part of the decoder's gradient along each row: it would only change the row's norm."""
        if self.decoder.grad is not None:
            along = row_dots(self.decoder.grad, self.decoder)[:, None]
            self.decoder.grad.addcmul_(along, self.decoder, value=-1.0)

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Scale decoder rows to unit norm."""
        self.decoder.div_(self.decoder.norm(dim=-1, keepdim=True).clamp_min(1e-8))

    @torch.no_grad()
    def dictionary(self, activation: ActivationFunction, site: Site, name: str) -> Dictionary:
        """The trained dictionary, in the units of the recorded activations.

        Decoder rows keep unit norm; latent activations carry the length.
        """
        return Dictionary(
            site,
            self.encoder.T.contiguous().clone(),
            self.b_enc * self.scale,
            self.decoder.clone(),
            self.b_dec * self.scale,
            activation,
            name=name,
        )
