"""How much an intervention moves the activations, and random controls that move them as much.

Unit-norm directions do not perturb equally: one along which activations vary widely loses more when it is ablated.
A control is fair when it removes the same energy, the mean of ‖Δh‖² over the same tokens at the same layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from personaprobe.effects.interventions import Ablate, Intervention
from personaprobe.models.edits import Edit
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Batch, Tokens, pad, told_apart
from personaprobe.site import Site

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Energy:
    """What one edit did at one site, averaged over the selected tokens.

    Attributes:
        removed: mean ‖Δh‖².
        dose: mean ‖Δh‖ / ‖h‖.
    """

    removed: float
    dose: float


@dataclass(frozen=True)
class Metered:
    """An intervention that is watched: does what it would do, and records the energy of every edit."""

    intervention: Intervention
    seen: dict[Site, Energy] = field(default_factory=dict)

    def edits(self, n_layers: int) -> Mapping[Site, Edit]:
        """The intervention's own edits, watched."""
        return {
            site: partial(self._edit, site=site, edit=edit)
            for site, edit in self.intervention.edits(n_layers).items()
        }

    def _edit(self, activations: Tensor, roles: Tensor, *, site: Site, edit: Edit) -> Tensor:
        edited = edit(activations, roles)
        selected = (roles & self.intervention.roles) != 0
        before = activations[selected].float()
        change = edited[selected].float() - before
        dose = change.norm(dim=-1) / before.norm(dim=-1).clamp_min(1e-6)
        self.seen[site] = Energy(float(change.square().sum(-1).mean()), float(dose.mean()))
        return edited


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
        direction, selected = self.ablation.direction, (roles & self.ablation.roles) != 0
        projection = activations[selected].float() @ direction.vector.to(activations.device)
        full = float((self.ablation.move(site.layer)(projection) - projection).square().mean())
        self.strength[site.layer] = (self.wanted[site].removed / max(full, 1e-12)) ** 0.5
        matched = Metered(
            replace(self.ablation, layers=(site.layer,), strength=dict(self.strength)), self.seen
        )
        return matched.edits(site.layer + 1)[site](activations, roles)


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
    batch: Batch = pad(told_apart(rows), model.network.pad_id)
    last = Site(model.n_layers - 1, "resid_post")
    model.activations(batch, [last])


def total(energies: Mapping[Site, Energy]) -> Energy:
    """Energy summed over sites, and the mean dose."""
    removed = sum(energy.removed for energy in energies.values())
    return Energy(removed, sum(energy.dose for energy in energies.values()) / max(1, len(energies)))
