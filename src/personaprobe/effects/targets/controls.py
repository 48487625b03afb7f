"""Controls of an ablation: other interventions, scaled to remove the same energy from the same texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from personaprobe.effects.interventions.along_direction import Ablate, Intervention
from personaprobe.effects.interventions.energy import Energy, match, measure
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Tokens
from personaprobe.site import Site


@dataclass(frozen=True)
class MeasuredAblation:
    """A feature's ablation with the energy it removes, which its controls have to match.

    Attributes:
        model: unedited.
        ablation: that of the feature.
        rows: the texts that energies are measured on.
        energies: of the ablation at every site it edits.
    """

    model: LanguageModel
    ablation: Intervention
    rows: Sequence[Tokens]
    energies: Mapping[Site, Energy]

    @classmethod
    def of(cls, model: LanguageModel, ablation: Intervention, rows: Sequence[Tokens]) -> MeasuredAblation:
        """Measure an ablation on some texts, read in one batch."""
        return cls(model, ablation, rows, measure(model, ablation, rows))


@dataclass(frozen=True)
class MatchedControl:
    """A control, scaled to remove the energy that the feature's ablation removes.

    Attributes:
        intervention: that of the control.
        energies: which it removes, by site.
        coefficients: by layer: how far the control goes towards its own target, relative to how far the feature goes
            towards its.
    """

    intervention: Intervention
    energies: Mapping[Site, Energy]
    coefficients: Mapping[int, float]


def matched_direction(
    control: Ablate, feature: MeasuredAblation, feature_coefficient: float = 1.0
) -> MatchedControl:
    """Scale the ablation of a control direction, layer by layer, to the energy of the feature's ablation.

    Args:
        control: on the roles that the feature's ablation acts on; where it acts follows from the feature's energies.
        feature: to be matched.
        feature_coefficient: of the feature's own ablation; controls are compared with it.
    """
    matched, energies = match(feature.model, control, feature.energies, feature.rows)
    assert isinstance(matched.coefficient, Mapping)
    relative = {layer: value / feature_coefficient for layer, value in matched.coefficient.items()}
    return MatchedControl(matched, energies, relative)
