"""How much an intervention moves the activations, and controls that move them as much.

Unit-norm directions do not perturb equally: one along which activations vary widely loses more when it is ablated.
A control is fair when it removes the same energy, the mean of ‖Δh‖² over the same tokens at the same layers.

Which tokens matter. One massive token (:mod:`personaprobe.models.massive_tokens`) outweighs all others in a mean of
squares, and a control matched on it does next to nothing to the rest. So energies are means over response tokens and over
prompt tokens apart; first tokens are left out unless the intervention itself acts on them, and other massive tokens always
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
"""A control's strength at a layer, relative to the feature's own: outside, it does too little, or overshoots."""

MOST_UNFAIR = 0.2
"""Share of a control's layers that may be outside :data:`FAIR`."""

NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class Moved:
    """How far an edit moves tokens of one role.

    Attributes:
        energy: mean ‖Δh‖².
        dose: mean ‖Δh‖ / ‖h‖.
    """

    energy: float = 0.0
    dose: float = 0.0


@dataclass(frozen=True)
class Energy:
    """What an intervention does to response tokens and to prompt tokens, at one site or summed over several.

    Attributes:
        response: over response tokens; nothing where the intervention does not act on them.
        prompt: over prompt tokens, likewise.
        roles: of the tokens that the intervention acts on.
    """

    response: Moved = Moved()
    prompt: Moved = Moved()
    roles: Role = Role.ALL

    @property
    def matched(self) -> float:
        """The energy that controls must remove: from response tokens, or from prompt tokens if only those are edited."""
        return self.response.energy if self.roles & Role.RESPONSE else self.prompt.energy


UNMOVED = Energy()


@dataclass(frozen=True)
class Metered:
    """An intervention that is watched: does what it would do, and records the energy of every edit.

    Energies are those of the intended change in float32; the model goes on with the change rounded to its own dtype.
    """

    intervention: Intervention
    seen: dict[Site, Energy] = field(default_factory=dict)

    def edits(self, n_layers: int) -> Mapping[Site, Edit]:
        """The intervention's own edits, watched."""
        return {
            site: partial(self._edit, site=site, edit=edit)
            for site, edit in self.intervention.edits(n_layers).items()
        }

    def _edit(self, activations: Tensor, roles: Tensor, *, site: Site, edit: Edit) -> Tensor:
        before = activations.float()
        change = edit(before, roles) - before
        own = self.intervention.roles
        response, prompt = (
            _moved(before, change, _counted(before, roles, own & part))
            for part in (Role.RESPONSE, ~Role.RESPONSE)
        )
        self.seen[site] = Energy(response, prompt, own)
        return edit(activations, roles)


def _counted(activations: Tensor, roles: Tensor, wanted: Role) -> Bool[Tensor, "batch pos"]:
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
    """An ablation whose strength at each layer is set, as the pass goes by, to remove a given energy there."""

    ablation: Ablate
    wanted: Mapping[Site, Energy]
    strength: dict[int, float] = field(default_factory=dict)
    seen: dict[Site, Energy] = field(default_factory=dict)

    def edits(self, n_layers: int) -> Mapping[Site, Edit]:
        return {site: partial(self._edit, site=site) for site in self.wanted}

    def _edit(self, activations: Tensor, roles: Tensor, *, site: Site) -> Tensor:
        whole = Metered(replace(self.ablation, layers=(site.layer,), strength=1.0))
        whole.edits(site.layer + 1)[site](activations, roles)
        self.strength[site.layer] = strength_for(self.wanted[site], whole.seen[site])
        matched = Metered(
            replace(self.ablation, layers=(site.layer,), strength=dict(self.strength)), self.seen
        )
        return matched.edits(site.layer + 1)[site](activations, roles)


def strength_for(wanted: Energy, at_one: Energy) -> float:
    """The strength at which a linear edit removes the wanted energy, from what it removes at strength 1."""
    return float((wanted.matched / max(at_one.matched, NEGLIGIBLE)) ** 0.5)


def measure(model: LanguageModel, intervention: Intervention, rows: Sequence[Tokens]) -> dict[Site, Energy]:
    """Energy and dose of an intervention at every site it edits, on a few texts read in one batch."""
    metered = Metered(intervention)
    _pass(model.edited(metered), rows)
    return metered.seen


def match(
    model: LanguageModel, ablation: Ablate, wanted: Mapping[Site, Energy], rows: Sequence[Tokens]
) -> tuple[Ablate, dict[Site, Energy]]:
    """Give a control the strength that removes the wanted energy at every layer.

    Upstream edits change what there is to remove downstream, so strengths are set in forward order within one pass
    in which the earlier ones already act.

    Args:
        model: the one to be intervened on, unedited.
        ablation: the control.
        wanted: from :func:`measure` of the feature's own ablation on the same ``rows``.
        rows: the texts both are measured on.

    Returns:
        The ablation at that strength, and the energies it then removes.
    """
    matching = _Matching(ablation, wanted)
    _pass(model.edited(matching), rows)
    layers = tuple(sorted(site.layer for site in wanted))
    return replace(ablation, layers=layers, strength=matching.strength), matching.seen


def _pass(model: LanguageModel, rows: Sequence[Tokens]) -> None:
    # what texts begin with counts for each of them
    batch: Batch = pad(with_text_ids(rows), model.network.pad_id)
    deepest = max(site for editing in model.edits for site in editing.edits(model.n_layers))
    model.activations(batch, [deepest])


def total(energies: Mapping[Site, Energy]) -> Energy:
    """Energies summed over sites, and mean doses."""
    if not energies:
        return UNMOVED
    every = list(energies.values())
    response, prompt = _summed([each.response for each in every]), _summed([each.prompt for each in every])
    return Energy(response, prompt, every[0].roles)


def _summed(moved: Sequence[Moved]) -> Moved:
    return Moved(sum(each.energy for each in moved), fmean(each.dose for each in moved))


def unfair_layers(strengths: Mapping[int, float]) -> tuple[int, ...]:
    """Layers at which a control's strength, relative to the feature's own, lies outside :data:`FAIR`."""
    low, high = FAIR
    return tuple(layer for layer, strength in strengths.items() if not low <= strength <= high)


def is_fair(strengths: Mapping[int, float]) -> bool:
    """Whether a control acts about as strongly as the feature at nearly all layers (:data:`MOST_UNFAIR`)."""
    return len(unfair_layers(strengths)) <= MOST_UNFAIR * len(strengths)
