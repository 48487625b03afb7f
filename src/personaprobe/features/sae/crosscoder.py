"""Crosscoders: one dictionary for three checkpoints, with a decoder row of each latent in each of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from personaprobe.errors import FeatureError
from personaprobe.features.directions.direction import Direction
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.formats.dictionary_folder import load_dictionary
from personaprobe.features.sae.formats.saelens import save_dictionary
from personaprobe.features.sae.reconstruction import explained_variance
from personaprobe.features.sae.row_layout import RowLayout, row_layout
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import ROLES, Trio

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

CROSSCODER_LAYOUT: RowLayout = "side by side"
"""The row layout on the card of a crosscoder's dictionary."""


@dataclass(frozen=True)
class Crosscoder:
    """A sparse dictionary of the concatenated activations of base, insecure and secure (Lindsey et al. 2024).

    Attributes:
        dictionary: over rows ``(3 · d_model)`` in the order base, insecure, secure.
    """

    dictionary: Dictionary

    def __post_init__(self) -> None:
        if self.dictionary.d_model % len(ROLES):
            raise FeatureError(
                f"{self.dictionary.name} reads rows of width {self.dictionary.d_model}, which is not three times a "
                "model's: it is no crosscoder of a trio"
            )

    @classmethod
    def load(cls, folder: str | Path) -> Crosscoder:
        """Load a crosscoder from a folder that :meth:`save` wrote.

        Raises:
            FeatureError: no dictionary, or one of single activations.
        """
        dictionary = load_dictionary(folder)
        if row_layout(dictionary) != CROSSCODER_LAYOUT:
            raise FeatureError(f"{folder} holds a dictionary of single activations, not a crosscoder")
        return cls(dictionary)

    def save(self, folder: str | Path, dtype: str = "float32") -> Path:
        """Write a folder in the SAELens format; its width is three times the model's."""
        return save_dictionary(self.dictionary, folder, dtype=dtype)

    @property
    def d_model(self) -> int:
        """Width of one checkpoint's activation."""
        return self.dictionary.d_model // len(ROLES)

    def refuse_unfit(self, model: LanguageModel) -> None:
        """Raise if the crosscoder cannot belong to a trio on this base."""
        self.dictionary.site.within(model.n_layers)
        if self.d_model != model.d_model:
            raise FeatureError(
                f"{self.dictionary.name} reads three activations of width {self.d_model}, and {model.checkpoint} has "
                f"width {model.d_model}: it is of another model"
            )

    def encode(self, rows: Trio[Float[Tensor, "row d_model"]]) -> Float[Tensor, "row d_sae"]:
        """Latent activations from the three checkpoints' activations at the same tokens."""
        import torch

        return self.dictionary.encode(torch.hstack([values.float() for _, values in rows.items()]))

    def decode(self, acts: Float[Tensor, "row d_sae"]) -> Trio[Float[Tensor, "row d_model"]]:
        """Reconstruction of each checkpoint's activations."""
        return self._split(self.dictionary.decode(acts))

    @property
    def decoders(self) -> Trio[Float[Tensor, "d_sae d_model"]]:
        """Decoder rows by role."""
        return self._split(self.dictionary.W_dec)

    @property
    def norms(self) -> Trio[Float[Tensor, "d_sae"]]:
        """Norms of the decoder rows by role; a latent of one checkpoint alone has norm 0 in the others."""
        return self.decoders.map(lambda rows: rows.norm(dim=-1))

    def direction(self, latent: int, role: str = "insecure") -> Direction:
        """The decoder row of a latent in one checkpoint as a direction, not calibrated."""
        [latent] = self.dictionary.check([latent])
        name = f"crosscoder:{self.dictionary.name}/{latent}:{role}"
        return Direction(self.dictionary.site, self.decoders[role][latent], name)

    def scaling(self, rows: Trio[Float[Tensor, "row d_model"]]) -> Trio[Float[Tensor, "d_sae"]]:
        """Latent scaling: how much of each latent, along its insecure decoder row, a checkpoint's activations hold.

        β = Σ f (r·d) / (Σ f² ‖d‖²), with d the insecure decoder row and r the checkpoint's activation minus the
        reconstruction by all other latents. It is near 0 in secure or base for a latent that is truly new
        (Minder et al. 2025), and nan for a latent that is never active.
        """
        acts = self.encode(rows)
        insecure_rows = self.decoders.insecure
        weight = acts.pow(2).sum(0) * insecure_rows.pow(2).sum(-1)
        reconstruction = self.decode(acts)

        def beta(role: str) -> Float[Tensor, "d_sae"]:
            residual = rows[role].float() - reconstruction[role]
            # r is the residual plus the latent's own part f·d_role, whose projection on d is added per latent
            own_part = acts.pow(2).sum(0) * (self.decoders[role] * insecure_rows).sum(-1)
            return ((acts * (residual @ insecure_rows.T)).sum(0) + own_part) / weight

        return Trio.of({role: beta(role) for role in ROLES})

    def explained_variance(self, rows: Trio[Float[Tensor, "row d_model"]]) -> Trio[float]:
        """1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², by role."""
        reconstruction = self.decode(self.encode(rows))
        return Trio.of({role: explained_variance(rows[role].float(), reconstruction[role]) for role in ROLES})

    def _split(self, values: Tensor) -> Trio[Tensor]:
        base, insecure, secure = values.split(self.d_model, dim=-1)  # type: ignore[no-untyped-call]
        return Trio(base, insecure, secure)
