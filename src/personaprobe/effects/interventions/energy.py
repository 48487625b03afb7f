"""Energy of an intervention: how far it moves the activations, and how controls are scaled to move them as far.

Unit-norm directions do not perturb equally: activations lose more along a direction in which they vary widely.
A control is fair when it removes the same energy, the mean of ‖Δh‖² over the same tokens at the same layers.

The choice of tokens matters. One massive token (:mod:`personaprobe.models.massive_tokens`) outweighs all others in a mean of
squares, and a control matched on it hardly changes the rest. So energies are means over response tokens and, separately,
over prompt tokens; first tokens are left out unless the intervention itself acts on them, and other massive tokens always
are. Controls are matched on response tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

from personaprobe.effects.interventions.along_direction import Ablate, Intervention
from personaprobe.models.edits.edit import Edit
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.massive_tokens import is_massive
from personaprobe.models.tokens import Batch, Role, Tokens, pad, with_text_ids
from personaprobe.site import Site

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor

FAIR = (1 / 3, 3.0)
"""Range of a control's coefficient at a layer, relative to the feature's own; outside it the control does too little, or too
much."""

MOST_UNFAIR = 0.2
"""Share of a control's layers that may lie outside :data:`FAIR`."""

NEGLIGIBLE = 1e-12
"""Energies below it are taken for it in ratios."""


@dataclass(frozen=True)
class Moved:
    """How far an edit moves the activations of tokens of one role.

    Attributes:
        energy: mean ‖Δh‖².
        dose: mean ‖Δh‖ / ‖h‖.
    """

    energy: float = 0.0
    dose: float = 0.0


@dataclass(frozen=True)
class Energy:
    """How far an intervention moves response tokens and prompt tokens, at one site or summed over several.

    Attributes:
        response: over response tokens; zero where the intervention does not act on them.
        prompt: over prompt tokens, likewise.
        roles: the tokens that the intervention acts on.
    """

    response: Moved = Moved()
    prompt: Moved = Moved()
    roles: Role = Role.ALL

    @property
    def matched(self) -> float:
        """The energy that controls have to remove: from response tokens, or from prompt tokens if only those are edited."""
        return self.response.energy if self.roles & Role.RESPONSE else self.prompt.energy


UNMOVED = Energy()


@dataclass(frozen=True)
class Metered:
    """An intervention whose edits are measured while they act.

    Energies are those of the intended change in float32; the model goes on with the change rounded to its own dtype.

    Attributes:
        intervention: acts as it would alone.
        energies: by site, filled during a forward pass.
    """

    intervention: Intervention
    energies: dict[Site, Energy] = field(default_factory=dict)

    def edits(self, n_layers: int) -> Mapping[Site, Edit]:
        """The intervention's own edits, measured."""
        return {
            site: partial(self._edit, site=site, edit=edit)
            for site, edit in self.intervention.edits(n_layers).items()
        }

    def _edit(self, activations: Tensor, roles: Tensor, *, site: Site, edit: Edit) -> Tensor:
        before = activations.float()
        change = edit(before, roles) - before
        acted_on = self.intervention.roles
        response, prompt = (
            _moved(before, change, counted_tokens(before, roles, acted_on & part))
            for part in (Role.RESPONSE, ~Role.RESPONSE)
        )
        self.energies[site] = Energy(response, prompt, acted_on)
        return edit(activations, roles)


def counted_tokens(activations: Tensor, roles: Tensor, wanted: Role) -> Bool[Tensor, "batch pos"]:
    """Tokens of some roles that are not massive; a first token counts where it is named."""
    outlying = is_massive(activations.norm(dim=-1), roles != Role.PAD) & ((roles & Role.FIRST) == 0)
    return ((roles & wanted) != 0) & ~outlying


def _moved(before: Tensor, change: Tensor, counted: Tensor) -> Moved:
    if not bool(counted.any()):
        return Moved()
    moved = change[counted]
    dose = moved.norm(dim=-1) / before[counted].norm(dim=-1).clamp_min(1e-6)
    return Moved(float(moved.square().sum(-1).mean()), float(dose.mean()))


@dataclass(frozen=True)
class _Matching:
    """An ablation whose coefficient at each layer is set during the forward pass, to remove a given energy there."""

    ablation: Ablate
    wanted: Mapping[Site, Energy]
    coefficients: dict[int, float] = field(default_factory=dict)
    energies: dict[Site, Energy] = field(default_factory=dict)

    def edits(self, n_layers: int) -> Mapping[Site, Edit]:
        return {site: partial(self._edit, site=site) for site in self.wanted}

    def _edit(self, activations: Tensor, roles: Tensor, *, site: Site) -> Tensor:
        at_layer = replace(self.ablation, layers=(site.layer,))
        at_one = Metered(replace(at_layer, coefficient=1.0))
        at_one.edits(site.layer + 1)[site](activations, roles)
        self.coefficients[site.layer] = coefficient_for(self.wanted[site], at_one.energies[site])
        matched = Metered(replace(at_layer, coefficient=dict(self.coefficients)), self.energies)
        return matched.edits(site.layer + 1)[site](activations, roles)


def coefficient_for(wanted: Energy, at_one: Energy) -> float:
    """The coefficient at which a linear edit removes the wanted energy, given the energy it removes at 1."""
    return float((wanted.matched / max(at_one.matched, NEGLIGIBLE)) ** 0.5)


def measure(model: LanguageModel, intervention: Intervention, rows: Sequence[Tokens]) -> dict[Site, Energy]:
    """Energy and dose of an intervention at every site it edits, on a few texts read in one batch."""
    metered = Metered(intervention)
    forward_all(model.edited(metered), rows)
    return metered.energies


def match(
    model: LanguageModel, ablation: Ablate, wanted: Mapping[Site, Energy], rows: Sequence[Tokens]
) -> tuple[Ablate, dict[Site, Energy]]:
    """Scale a control so that it removes the wanted energy at every layer.

    Edits at early layers change how much there is to remove at later ones, so coefficients are set in forward order within
    one pass, in which the earlier edits already act.

    Args:
        model: the unedited model.
        ablation: the control.
        wanted: from :func:`measure` of the feature's own ablation on the same ``rows``.
        rows: the texts that both are measured on.

    Returns:
        The ablation with one coefficient a layer, and the energies it then removes.
    """
    matching = _Matching(ablation, wanted)
    forward_all(model.edited(matching), rows)
    layers = tuple(sorted(site.layer for site in wanted))
    return replace(ablation, layers=layers, coefficient=matching.coefficients), matching.energies


def forward_all(model: LanguageModel, rows: Sequence[Tokens]) -> None:
    """Read some texts in one batch, as deep as the model's edits reach."""
    # texts get ids of their own, or a prefix that several share would be computed once and counted once
    batch: Batch = pad(with_text_ids(rows), model.network.pad_id)
    deepest = max(site for editing in model.edits for site in editing.edits(model.n_layers))
    model.activations(batch, [deepest])


def total(energies: Mapping[Site, Energy]) -> Energy:
    """Energies summed over sites, and mean doses."""
    return added(list(energies.values()))


def added(by_site: Sequence[Energy]) -> Energy:
    """Energies summed over sites or over edits in turn, and mean doses."""
    if not by_site:
        return UNMOVED
    response = _summed([energy.response for energy in by_site])
    prompt = _summed([energy.prompt for energy in by_site])
    return Energy(response, prompt, by_site[0].roles)


def _summed(by_site: Sequence[Moved]) -> Moved:
    return Moved(sum(moved.energy for moved in by_site), fmean(moved.dose for moved in by_site))


def unfair_layers(coefficients: Mapping[int, float]) -> tuple[int, ...]:
    """Layers at which a control's coefficient, relative to the feature's own, lies outside :data:`FAIR`."""
    low, high = FAIR
    return tuple(layer for layer, coefficient in coefficients.items() if not low <= coefficient <= high)


def is_fair(coefficients: Mapping[int, float]) -> bool:
    """Whether a control acts about as strongly as the feature at nearly all layers (:data:`MOST_UNFAIR`)."""
    return len(unfair_layers(coefficients)) <= MOST_UNFAIR * len(coefficients)
