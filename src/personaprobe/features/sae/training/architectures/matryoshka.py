"""Matryoshka dictionaries: nested BatchTopK dictionaries in one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from personaprobe.errors import FeatureError
from personaprobe.features.sae.kernels import sparse
from personaprobe.features.sae.kernels.sparse import ActiveLatents
from personaprobe.features.sae.training.architectures.batchtopk import BatchTopKArchitecture

if TYPE_CHECKING:
    from torch import Tensor

    from personaprobe.features.sae.training.autoencoder import Autoencoder


@dataclass(frozen=True)
class MatryoshkaArchitecture(BatchTopKArchitecture):
    """BatchTopK whose first latents also reconstruct on their own, which keeps general features whole
    (Bussmann et al. 2025).

    Attributes:
        widths: ascending numbers of first latents; each such prefix has a reconstruction loss. The loss of the whole
            dictionary is always added.
    """

    widths: tuple[int, ...] = (256, 1024)
    name: ClassVar[str] = "matryoshka"

    def reconstruct(
        self, autoencoder: Autoencoder, x: Tensor, values: Tensor, active: ActiveLatents
    ) -> tuple[dict[str, Tensor], Tensor]:
        terms = {}
        reconstruction: Tensor = autoencoder.b_dec
        for name, low, high in self.levels(active.d_sae):
            inside = (active.latents >= low) & (active.latents < high)
            reconstruction = reconstruction + sparse.decode(
                values[inside], autoencoder.decoder, active.filtered(inside)
            )
            terms[name] = self.reconstruction_error(reconstruction, x)
        return terms, reconstruction

    def levels(self, d_sae: int) -> Iterator[tuple[str, int, int]]:
        """Name of the loss term, first latent and end (exclusive) of each level.

        Raises:
            FeatureError: widths that do not ascend from above 0 to below ``d_sae``.
        """
        low = 0
        for width in self.widths:
            if not low < width < d_sae:
                raise FeatureError(f"widths {self.widths} must ascend from above 0 to below d_sae {d_sae}")
            yield f"mse_{width}", low, width
            low = width
        yield "mse", low, d_sae
