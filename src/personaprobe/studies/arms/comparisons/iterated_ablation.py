"""Iterated ablation: remove the feature, find the difference to the reference that remains, remove that too.

One direction that removes the shift may be one of several that carry it together: this counts them, as iterative nullspace
projection does (Ravfogel et al. 2020). Each further direction is the difference of means that remains under the ablations
before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from personaprobe.effects.interventions.along_direction import Ablate, Intervention
from personaprobe.effects.interventions.energy import added, measure, total
from personaprobe.effects.targets.discovery import Discovery, calibrated_on
from personaprobe.features.directions.control_directions import orthogonal_part
from personaprobe.features.directions.direction import Direction
from personaprobe.studies.arms.arm import Arm
from personaprobe.studies.arms.study_arms import StudyArms


def iterated_arms(arms: StudyArms, discovery: Discovery, n: int) -> list[Arm]:
    """The feature ablated together with up to ``n`` directions, each found again after the ablations before it.

    Args:
        arms: of the study.
        discovery: a part of the discovery questions; each round records them under the ablations so far.
        n: further directions; none are found for a target without an axis.
    """
    axis = arms.treatment.target.axis
    if axis is None:
        return []
    directions, further_arms = [axis], []
    interventions: tuple[Intervention, ...] = (arms.measured.ablation,)
    energies = [total(arms.measured.energies)]
    for round_number in range(2, n + 2):
        directions.append(_remaining(arms, discovery, interventions, directions))
        ablate = Ablate(directions[-1], layers=arms.treatment.layers, roles=arms.treatment.roles)
        energies.append(total(measure(arms.trio.insecure.edited(*interventions), ablate, arms.rows)))
        interventions = (*interventions, ablate)
        energy = added(energies)
        name = f"ablated, found again × {round_number - 1}"
        further_arms.append(Arm(name, "iterated", arms.trio.insecure, interventions, energy))
    return further_arms


def _remaining(
    arms: StudyArms,
    discovery: Discovery,
    interventions: Sequence[Intervention],
    directions: Sequence[Direction],
) -> Direction:
    """The difference of means that remains between insecure under some ablations and the reference, orthogonal to the
    directions before it."""
    import torch

    site = directions[0].site
    ablated = replace(arms.trio, insecure=arms.trio.insecure.edited(*interventions))
    layers = sorted({*arms.treatment.layers, site.layer})
    activations = discovery.activations(ablated, site, roles=calibrated_on(ablated), layers=layers)
    difference = activations.store("insecure").mean(site) - activations.reference_store.mean(site)
    known = torch.stack([direction.vector for direction in directions])
    remaining = Direction(site, orthogonal_part(difference, known), f"means, round {len(directions) + 1}")
    return activations.calibrate(remaining)
