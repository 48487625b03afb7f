"""Taking latents of a dictionary away: what they wrote is subtracted, and nothing else is touched.

The reconstruction error stays in the activation, since only the latents' own contribution is changed:
``x' = x − strength · Σ f_i(x) W_dec[i]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from personaprobe.effects.interventions.energy import Energy, measure, strength_for
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.models.edits.edit import Edit
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Role, Tokens, role_names
from personaprobe.site import Site

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AblateLatents:
    """Set latents to zero, leaving the rest of the activation as it is.

    Costs O(d_model) a latent and token where the activation function looks at one latent at a time.

    Attributes:
        dictionary: on any device; it moves to the activations'.
        latents: which of its latents.
        strength: 1 takes all of their contribution away; another number scales the change (this is how random
            controls are matched on the energy they remove).
        roles: on which tokens; padding is never touched, first tokens only where they are named.
    """

    dictionary: Dictionary
    latents: tuple[int, ...]
    strength: float = 1.0
    roles: Role = Role.ALL

    def __post_init__(self) -> None:
        self.dictionary.check(self.latents)

    def edits(self, n_layers: int) -> Mapping[Site, Edit]:
        """One edit, at the dictionary's site."""
        return {self.dictionary.site: self._edit}

    def describe(self) -> dict[str, Any]:
        """The intervention as plain data: what a run folder remembers it by."""
        return {
            "kind": type(self).__name__,
            "dictionary": self.dictionary.digest,
            "latents": sorted(self.latents),
            "strength": self.strength,
            "roles": role_names(self.roles),
        }

    @property
    def note(self) -> str:
        """A few words for tables."""
        return f"ablate {self.dictionary.name}/{','.join(map(str, self.latents))} @ {self.dictionary.site}"

    def matched(self, model: LanguageModel, wanted: Energy, rows: Sequence[Tokens]) -> AblateLatents:
        """The same latents at the strength that removes the wanted energy from some texts.

        Args:
            model: the one to be intervened on, unedited.
            wanted: of the ablation to be matched, on the same texts.
            rows: the texts it is measured on.
        """
        removed = measure(model, self, rows)[self.dictionary.site]
        return replace(self, strength=self.strength * strength_for(wanted, removed))

    def _edit(self, activations: Tensor, roles: Tensor) -> Tensor:
        dictionary = self.dictionary.on(activations.device)
        wide = activations.float()
        acts = dictionary.encode_latents(wide, self.latents)
        acts = acts * ((roles & self.roles) != 0)[..., None]
        return (wide - self.strength * (acts @ dictionary.decoder_rows(self.latents))).to(activations.dtype)
