"""How much of the activations a dictionary reconstructs, and how often its latents are active."""

from __future__ import annotations

from typing import TYPE_CHECKING

from personaprobe.features.sae.dictionary import Dictionary

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def explained_variance(x: Float[Tensor, "row d"], reconstruction: Float[Tensor, "row d"]) -> float:
    """1 − Σ‖x − x̂‖² / Σ‖x − x̄‖²."""
    return 1.0 - float((x - reconstruction).pow(2).sum() / (x - x.mean(0)).pow(2).sum())


class ReconstructionStatistics:
    """Running sums over activations, in float64: explained variance, mean activation and firing rates."""

    def __init__(self, dictionary: Dictionary) -> None:
        """Start from no rows; sums live on the dictionary's device."""
        import torch

        device = dictionary.b_dec.device
        self.dictionary = dictionary
        self.n = 0
        self._active_counts = torch.zeros(dictionary.d_sae, device=device)
        self._squared_error = self._squared_norm = 0.0
        self._sum = torch.zeros(dictionary.d_model, dtype=torch.float64, device=device)

    def add(self, x: Float[Tensor, "row d_model"], acts: Float[Tensor, "row d_sae"]) -> None:
        """Add activations and their encoding."""
        self._squared_error += float((x - self.dictionary.decode(acts)).double().pow(2).sum())
        self._active_counts += (acts > 0).sum(0)
        self._squared_norm += float(x.double().pow(2).sum())
        self._sum += x.double().sum(0)
        self.n += len(x)

    @property
    def mean(self) -> Float[Tensor, "d_model"]:
        """Mean activation."""
        return self._sum / self.n

    @property
    def firing_rates(self) -> Float[Tensor, "d_sae"]:
        """Share of rows in which each latent is active."""
        return self._active_counts / self.n

    @property
    def explained_variance(self) -> float:
        """1 − Σ‖x − x̂‖² / Σ‖x − x̄‖²."""
        total_variance = self._squared_norm - self.n * float(self.mean.pow(2).sum())
        return 1.0 - self._squared_error / total_variance
