"""The parameters of a dictionary while it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.kernels.sparse import row_dots
from personaprobe.features.sae.training.architectures import Architecture
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


class Autoencoder(torch.nn.Module):
    """Encoder, decoder and biases in float32, and what training remembers of its latents.

    Inputs are divided by ``scale`` first, so that recipes carry over between sites and models. Latents are rows of
    both matrices: their gradients are then rows too.

    Attributes:
        encoder, decoder: ``(d_sae, d_in)``; decoder rows have unit norm.
        b_enc: ``(d_sae)``. b_dec: ``(d_in)``, the mean input at first.
        thresholds: ``(d_sae)``, learned by JumpReLU alone.
        idle: ``(d_sae)``, rows read since each latent last fired.
        threshold: BatchTopK's, a running mean.
        scale: root mean square norm of the centred input over the square root of its width.
    """

    idle: Int[Tensor, "d_sae"]
    threshold: Float[Tensor, ""]
    scale: Float[Tensor, ""]

    def __init__(self, d_sae: int, sample: Float[Tensor, "row d_in"], seed: int) -> None:
        """Start from a sample of what will be read.

        Args:
            d_sae: how many latents.
            sample: rows, as recorded.
            seed: of the decoder's directions; the encoder starts as its transpose.
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
        self.register_buffer("idle", torch.zeros(d_sae, dtype=torch.long))
        self.register_buffer("threshold", torch.zeros((), dtype=torch.float64))
        self.register_buffer("scale", scale)
        self.smallest = 0.0

    @property
    def d_sae(self) -> int:
        """How many latents there are."""
        return len(self.b_enc)

    def follow(self, smallest: float, rate: float) -> None:
        """Move BatchTopK's threshold towards the smallest activation of a batch."""
        self.threshold += rate * (smallest - self.threshold)
        self.smallest = smallest

    @torch.no_grad()
    def seen(self, fired: Int[Tensor, "d_sae"], n_rows: int) -> None:
        """Note which latents fired in a batch."""
        self.idle += n_rows
        self.idle[fired > 0] = 0

    def dead(self, after: int) -> Bool[Tensor, "d_sae"]:
        """Latents that have not fired in the last ``after`` rows."""
        return self.idle >= after

    @torch.no_grad()
    def project_gradient(self) -> None:
        """Remove what would only lengthen or shorten decoder rows, since they are brought back to unit norm."""
        if self.decoder.grad is not None:
            along = row_dots(self.decoder.grad, self.decoder)[:, None]
            self.decoder.grad.addcmul_(along, self.decoder, value=-1.0)

    @torch.no_grad()
    def normalise(self) -> None:
        """Bring decoder rows back to unit norm."""
        self.decoder.div_(self.decoder.norm(dim=-1, keepdim=True).clamp_min(1e-8))

    @torch.no_grad()
    def dictionary(self, architecture: Architecture, site: Site, name: str) -> Dictionary:
        """What was learned, in the units of the activations as recorded: decoder rows keep unit norm, and latents
        carry the length."""
        return Dictionary(
            site,
            self.encoder.T.contiguous().clone(),
            self.b_enc * self.scale,
            self.decoder.clone(),
            self.b_dec * self.scale,
            architecture.activation(self),
            name=name,
        )
