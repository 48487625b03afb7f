"""The mean shift of an ablation without its loss of variance: a constant push along the direction at every layer.

An ablation to the reference does two things to projections: it moves their mean to the reference, and it removes all of
their variance. The push does the first alone, so that the two can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from personaprobe.effects.interventions.along_direction import Ablate, Along
from personaprobe.effects.interventions.energy import counted_tokens, forward_all
from personaprobe.models.edits.edit import Edit
from personaprobe.models.edits.rank_one import AffineClamp
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Role, Tokens
from personaprobe.site import Site

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Push(Along):
    """Add a constant along the direction, in activation units, at every layer.

    Attributes:
        amounts: by layer.
    """

    _: KW_ONLY
    amounts: Mapping[int, float]

    @property
    def parameters(self) -> dict[str, Any]:
        return {"amounts": dict(self.amounts)}

    def move(self, layer: int) -> AffineClamp:
        """Every projection grows by the layer's entry."""
        return AffineClamp(shift=self.amounts[layer])


def fit_mean_shift(model: LanguageModel, ablation: Ablate, rows: Sequence[Tokens]) -> Push:
    """Fit the push that moves the mean projection of some tokens as far as an ablation does, layer by layer.

    Earlier pushes change the projections at later layers, so amounts are set in forward order within one pass, in which the
    earlier pushes already act. Means are over response tokens, or over prompt tokens where only those are edited; massive
    tokens do not count.

    Args:
        model: unedited.
        ablation: of a direction.
        rows: the texts, read in one batch.
    """
    fitting = _Fitting(ablation)
    forward_all(model.edited(fitting), rows)
    layers = tuple(sorted(fitting.amounts))
    return Push(ablation.direction, layers=layers, roles=ablation.roles, amounts=dict(fitting.amounts))


@dataclass(frozen=True)
class _Fitting:
    """An ablation in whose place pushes act, each fitted when its layer is reached."""

    ablation: Ablate
    amounts: dict[int, float] = field(default_factory=dict)

    def edits(self, n_layers: int) -> Mapping[Site, Edit]:
        return {site: partial(self._edit, site=site) for site in self.ablation.edits(n_layers)}

    def _edit(self, activations: Tensor, roles: Tensor, *, site: Site) -> Tensor:
        direction, acted_on = self.ablation.direction, self.ablation.roles
        wide = activations.float()
        counted = counted_tokens(wide, roles, acted_on & Role.RESPONSE or acted_on)
        mean = (wide[counted] @ direction.vector.to(wide.device)).mean().nan_to_num()
        self.amounts[site.layer] = float(self.ablation.move(site.layer)(mean) - mean)
        push = Push(direction, layers=(site.layer,), roles=acted_on, amounts=dict(self.amounts))
        return push.edits(site.layer + 1)[site](activations, roles)
