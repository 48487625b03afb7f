"""Ablation of latents of a dictionary: their contribution is subtracted, and nothing else changes.

The reconstruction error stays in the activation, since only the latents' own contribution is changed:
``x' = x − coefficient · Σ f_i(x) W_dec[i]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from personaprobe.effects.interventions.energy import Energy, coefficient_for, measure
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.models.edits.edit import Edit
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Role, Tokens, role_names
from personaprobe.site import Site

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AblateLatents:
    """Set latents to zero; the rest of the activation stays as it is.

    The cost is O(d_model) a latent and token where the activation function looks at one latent at a time.

    Attributes:
        dictionary: on any device; it is moved to that of the activations.
        latents: indices of its latents.
        coefficient: 1 removes all of their contribution; another number scales the change: so are controls matched on
            the energy they remove.
        roles: the tokens that are changed; padding never is, first tokens only where they are named.
    """

    dictionary: Dictionary
    latents: tuple[int, ...]
    coefficient: float = 1.0
    roles: Role = field(default=Role.ALL, kw_only=True)

    def __post_init__(self) -> None:
        self.dictionary.check(self.latents)

    def edits(self, n_layers: int) -> Mapping[Site, Edit]:
        """One edit, at the dictionary's site."""
        return {self.dictionary.site: self._edit}

    def describe(self) -> dict[str, Any]:
        """The intervention as plain data, by which a run folder recognises it."""
        return {
            "kind": type(self).__name__,
            "dictionary": self.dictionary.digest,
            "latents": sorted(self.latents),
            "strength": self.coefficient,
            "roles": role_names(self.roles),
        }

    @property
    def note(self) -> str:
        """A few words for tables."""
        return f"ablate {self.dictionary.name}/{','.join(map(str, self.latents))} @ {self.dictionary.site}"

    def matched(self, model: LanguageModel, wanted: Energy, rows: Sequence[Tokens]) -> AblateLatents:
        """The same latents at the coefficient that removes the wanted energy from some texts.

        Args:
            model: the unedited model.
            wanted: the energy that the ablation to be matched removes from the same texts.
            rows: the texts that energies are measured on.
        """
        removed = measure(model, self, rows)[self.dictionary.site]
        return replace(self, coefficient=self.coefficient * coefficient_for(wanted, removed))

    def _edit(self, activations: Tensor, roles: Tensor) -> Tensor:
        dictionary = self.dictionary.on(activations.device)
        wide = activations.float()
        acts = dictionary.encode_latents(wide, self.latents)
        acts = acts * ((roles & self.roles) != 0)[..., None]
        return (wide - self.coefficient * (acts @ dictionary.decoder_rows(self.latents))).to(
            activations.dtype
        )
