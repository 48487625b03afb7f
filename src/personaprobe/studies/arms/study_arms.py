"""The arms of a study: three checkpoints, the feature's ablation, its controls, and base steered along the feature."""

from __future__ import annotations

from collections.abc import Sequence

from personaprobe.effects.interventions.energy import measure, total
from personaprobe.effects.targets.controls import MeasuredAblation
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet
from personaprobe.studies.arms.arm import Arm, calibration_rows, untreated_arms
from personaprobe.studies.arms.controls import Control, fair_draw
from personaprobe.studies.arms.treatment import Treatment


def make_arms(
    trio: Trio[LanguageModel], treatment: Treatment, texts: PairSet, controls: Sequence[Control]
) -> list[Arm]:
    """Lay out all arms, the controls matched on the energy that the feature's ablation removes.

    Args:
        trio: loaded.
        treatment: the feature's ablation and steering.
        texts: energies are measured on them.
        controls: ablated one by one in insecure.
    """
    rows = calibration_rows(trio.base, texts)
    feature = MeasuredAblation.of(trio.insecure, treatment.ablation(), rows)
    arms = untreated_arms(trio)
    arms.append(
        Arm("insecure, ablated", "ablated", trio.insecure, (feature.ablation,), total(feature.energies))
    )
    for control in controls:
        arms.append(control_arm(arms, treatment, control, feature))
    steering = treatment.steering()
    if steering is not None:
        energy = total(measure(trio.base, steering, rows))
        arms.append(Arm("base, steered", "steered", trio.base, (steering,), energy))
    return arms


def control_arm(
    arms: Sequence[Arm], treatment: Treatment, control: Control, feature: MeasuredAblation
) -> Arm:
    """Make a further control: different from all other arms, and about as strong as the feature where a draw is."""
    drawn = fair_draw(
        control,
        lambda draw: treatment.target.control(draw.kind, draw.seed, feature),
        [intervention for arm in arms for intervention in arm.interventions],
    )
    return Arm(
        drawn.control.name,
        drawn.control.kind,
        feature.model,
        (drawn.matched.intervention,),
        total(drawn.matched.energies),
        drawn.matched.coefficients,
        drawn.draws,
    )
