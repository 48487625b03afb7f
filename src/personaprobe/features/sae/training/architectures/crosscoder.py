"""Crosscoders: BatchTopK over the activations of several checkpoints side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from einops import rearrange

from personaprobe.features.sae.row_layout import RowLayout
from personaprobe.features.sae.training.architectures.batchtopk import BatchTopKArchitecture

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CrosscoderArchitecture(BatchTopKArchitecture):
    """BatchTopK over concatenated activations: one latent has one decoder row per checkpoint (Lindsey et al. 2024).

    Attributes:
        n_models: number of checkpoints in a row.
        delta: weight of the error of the *differences* between each later checkpoint and the first. Differences are
            small beside the activations, and are what model diffing is about.
    """

    n_models: int = 3
    delta: float = 1.0
    name: ClassVar[str] = "crosscoder"
    layout: ClassVar[RowLayout] = "side by side"

    def reconstruction_error(self, reconstruction: Tensor, x: Tensor) -> Tensor:
        error = super().reconstruction_error(reconstruction, x)
        if not self.delta:
            return error
        by_model: Tensor = rearrange(
            reconstruction - x, "row (model d_model) -> row model d_model", model=self.n_models
        )
        differences = by_model[:, 1:] - by_model[:, :1]
        return error + self.delta * differences.pow(2).sum((-1, -2)).mean()
