"""One dictionary for three checkpoints: a latent has a decoder row in each, and so says which of them it lives in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from personaprobe.errors import FeatureError
from personaprobe.features.directions.direction import Direction
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.ranking import RARE, Ranking
from personaprobe.features.sae.formats import load, save
from personaprobe.features.sae.quality import explained_variance
from personaprobe.features.sae.row_layout import row_layout
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import ROLES, Trio

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

LAYOUT = "side by side"
"""What the card of a crosscoder's dictionary says its rows are."""


@dataclass(frozen=True)
class Crosscoder:
    """A sparse dictionary of the activations of base, insecure and secure side by side (Lindsey et al. 2024).

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
        """Read a crosscoder from the folder :meth:`save` wrote.

        Raises:
            FeatureError: no dictionary, or one of single activations.
        """
        dictionary = load(folder)
        if row_layout(dictionary) != LAYOUT:
            raise FeatureError(f"{folder} holds a dictionary of single activations, not a crosscoder")
        return cls(dictionary)

    def save(self, folder: str | Path, dtype: str = "float32") -> Path:
        """Write a folder in the SAELens format; its width is three times the model's."""
        return save(self.dictionary, folder, dtype=dtype)

    @property
    def d_model(self) -> int:
        """Width of one checkpoint's activation."""
        return self.dictionary.d_model // len(ROLES)

    def refuse_unfit(self, model: LanguageModel) -> None:
        """Raise where the crosscoder cannot be of a trio on this base."""
        self.dictionary.site.within(model.n_layers)
        if self.d_model != model.d_model:
            raise FeatureError(
                f"{self.dictionary.name} reads three activations of width {self.d_model}, and {model.checkpoint} has "
                f"width {model.d_model}: it is of another model"
            )

    def encode(self, rows: Trio[Float[Tensor, "row d_model"]]) -> Float[Tensor, "row d_sae"]:
        """Activations of all latents, from the three checkpoints' activations at the same tokens."""
        import torch

        return self.dictionary.encode(torch.hstack([values.float() for _, values in rows.items()]))

    def decode(self, acts: Float[Tensor, "row d_sae"]) -> Trio[Float[Tensor, "row d_model"]]:
        """What the latents write in each checkpoint."""
        return self._split(self.dictionary.decode(acts))

    @property
    def decoders(self) -> Trio[Float[Tensor, "d_sae d_model"]]:
        """Decoder rows by role."""
        return self._split(self.dictionary.W_dec)

    @property
    def norms(self) -> Trio[Float[Tensor, "d_sae"]]:
        """Norms of the decoder rows by role: a latent of one checkpoint alone has the others' at 0."""
        return self.decoders.map(lambda rows: rows.norm(dim=-1))

    def direction(self, latent: int, role: str = "insecure") -> Direction:
        """What a latent writes in one checkpoint, as a direction; not calibrated."""
        [latent] = self.dictionary.check([latent])
        name = f"crosscoder:{self.dictionary.name}/{latent}:{role}"
        return Direction(self.dictionary.site, self.decoders[role][latent], name)

    def scaling(self, rows: Trio[Float[Tensor, "row d_model"]]) -> Trio[Float[Tensor, "d_sae"]]:
        """Latent scaling: how much of each latent, as insecure writes it, a checkpoint's activations hold.

        β = Σ f (r·d) / (Σ f² ‖d‖²) with d the insecure decoder row and r the checkpoint's activation less what all
        other latents reconstruct of it; near 0 in secure or base for a latent that is truly new (Minder et al. 2025).
        nan where the latent never fires.
        """
        acts = self.encode(rows)
        own = self.decoders.insecure
        weight = acts.pow(2).sum(0) * own.pow(2).sum(-1)
        written = self.decode(acts)

        def of(role: str) -> Float[Tensor, "d_sae"]:
            left = rows[role].float() - written[role]
            along = (acts * (left @ own.T)).sum(0) + acts.pow(2).sum(0) * (self.decoders[role] * own).sum(-1)
            return along / weight

        return Trio.of({role: of(role) for role in ROLES})

    def explained_variance(self, rows: Trio[Float[Tensor, "row d_model"]]) -> Trio[float]:
        """1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², by role."""
        written = self.decode(self.encode(rows))
        return Trio.of({role: explained_variance(rows[role].float(), written[role]) for role in ROLES})

    def _split(self, values: Tensor) -> Trio[Tensor]:
        base, insecure, secure = values.split(self.d_model, dim=-1)  # type: ignore[no-untyped-call]
        return Trio(base, insecure, secure)


def rank_latents(crosscoder: Crosscoder, rows: Trio[Float[Tensor, "row d_model"]]) -> list[Ranking]:
    """Rank a crosscoder's latents by how much more they belong to insecure than to secure, in four ways.

    ``written``: mean activation times ‖insecure row − secure row‖, what the two checkpoints' activations differ by for
    its sake; ``norm``: difference of the rows' norms over the larger; ``turn``: 1 − cosine of the two rows;
    ``scaling``: the share of what insecure writes that secure's activations lack. −∞ where a latent fires in less than
    one token of a thousand.

    Args:
        crosscoder: of the trio.
        rows: activations of the three checkpoints at the same tokens.
    """
    import torch

    acts, norms, beta = crosscoder.encode(rows), crosscoder.norms, crosscoder.scaling(rows)
    own, other = crosscoder.decoders.insecure, crosscoder.decoders.secure
    scores = {
        "written": acts.mean(0) * (own - other).norm(dim=-1),
        "norm": (norms.insecure - norms.secure)
        / torch.maximum(norms.insecure, norms.secure).clamp_min(1e-12),
        "turn": 1.0 - torch.nn.functional.cosine_similarity(own, other, dim=-1),
        "scaling": 1.0 - beta.secure / beta.insecure,
    }
    rare = (acts > 0).float().mean(0) < RARE

    def ranking(name: str, values: Tensor) -> Ranking:
        return Ranking(name, torch.where(rare | values.isnan(), -torch.inf, values).cpu().numpy())

    return [ranking(name, values) for name, values in scores.items()]
