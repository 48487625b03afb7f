"""TopK dictionaries: every row keeps its k largest latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from personaprobe.features.sae.activation_functions import TopK
from personaprobe.features.sae.kernels import selection
from personaprobe.features.sae.kernels.sparse import ActiveLatents
from personaprobe.features.sae.training.architectures.architecture import Architecture
from personaprobe.features.sae.training.architectures.sparse_architecture import SparseArchitecture

if TYPE_CHECKING:
    from torch import Tensor

    from personaprobe.features.sae.training.autoencoder import Autoencoder


@dataclass(frozen=True)
class TopKArchitecture(SparseArchitecture):
    """Each row keeps its ``k`` largest latents (Gao et al. 2024).

    A step is 7.9 × as fast as SAELens' and 2.5 × as fast as sparsify's, with ``preselect`` 10.3 × as fast as SAELens'
    (``tests/benchmarks/results/dictionaries-amd-epyc-avx512.json``: two cores with AVX512, 2048 × 576 → 4608, k 32).

    Attributes:
        k: active latents per row.
        aux: weight of the auxiliary loss of dead latents.
        preselect: find the active latents by a product in bfloat16, where that is faster, and compute only those in
            float32.
    """

    k: int = 32
    aux: float = 1 / 32
    preselect: bool = False
    name: ClassVar[str] = "topk"

    @classmethod
    def with_sparsity(cls, k: float, penalty: float, preselect: bool = False) -> Architecture:
        """Keep ``k`` latents per row, rounded down."""
        return cls(k=int(k), preselect=preselect)

    def select(self, autoencoder: Autoencoder, centred: Tensor) -> tuple[ActiveLatents, Tensor]:
        encoder, bias = autoencoder.encoder, autoencoder.b_enc
        if self.preselect and selection.bf16_is_faster(centred):
            rough = selection.bf16_affine(encoder, bias)
            return selection.preselected_top_k(centred, encoder, bias, rough, self.k)
        return selection.top_k(selection.affine(encoder, bias), centred, autoencoder.d_sae, self.k)

    def activation(self, autoencoder: Autoencoder) -> TopK:
        return TopK(self.k)
