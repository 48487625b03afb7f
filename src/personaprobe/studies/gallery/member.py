"""One organism of a gallery in numbers: how far it shifted, what it learned, and what directions remove of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from personaprobe.effects.targets.direction import DirectionTarget
from personaprobe.features.directions.direction import Direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet
from personaprobe.statistics.fractions import random_fraction, share_of_shift
from personaprobe.statistics.intervals import Interval, Resamples, difference
from personaprobe.studies.arms.arm import Arm, untreated_arms
from personaprobe.studies.arms.measurement import measure_gaps
from personaprobe.studies.arms.run_context import RunContext


@dataclass(frozen=True)
class Removal:
    """The effect of one direction's ablation in one organism.

    Attributes:
        shift: insecure − secure on the questions of the table, nats per token.
        change: by which the ablation lowers the preference of insecure for careless answers, nats per token.
        share: of the shift; not defined where its interval holds 0.
    """

    shift: Interval
    change: Interval
    share: Interval


@dataclass(frozen=True)
class Member:
    """One organism of a gallery.

    Attributes:
        recipe: its recipe's name.
        seed: of its training.
        shifts: insecure − secure preference for careless answers by question set (``test``, ``balanced``, ``narrow``), nats
            per token.
        over_base: insecure − base on the test questions.
        removals: by the name of the ablated direction.
        controls: share of the shift that ablations of other directions remove, matched on the energy that the organism's own
            direction removes; not defined where the shift's interval holds 0.
        n_controls: how many these are.
        training: the card of the insecure adapter's training.
    """

    recipe: str
    seed: int
    shifts: Mapping[str, Interval]
    over_base: Interval
    removals: Mapping[str, Removal]
    controls: Interval
    n_controls: int
    training: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Recipe, and seed where it is not the first."""
        return self.recipe if not self.seed else f"{self.recipe}-{self.seed}"


def measure_shifts(
    trio: Trio[LanguageModel], question_sets: Mapping[str, PairSet], run: RunContext
) -> tuple[dict[str, Interval], Interval]:
    """Shifts by question set, and insecure − base on the first of them."""
    shifts, over_base = {}, []
    for number, (name, questions) in enumerate(question_sets.items()):
        arms = [arm for arm in untreated_arms(trio) if not number or arm.role != "base"]
        measured = measure_gaps(arms, questions, run)
        gaps = {arm.role: np.asarray(of_arm.gaps) for arm, of_arm in zip(arms, measured, strict=True)}
        resamples = Resamples.of_families(questions.families)
        shifts[name] = difference(gaps["insecure"], gaps["secure"], resamples)
        if "base" in gaps:
            over_base.append(difference(gaps["insecure"], gaps["base"], resamples))
    return shifts, over_base[0]


def measure_removals(
    trio: Trio[LanguageModel],
    directions: Mapping[str, Direction],
    controls: Sequence[Arm],
    questions: PairSet,
    run: RunContext,
) -> tuple[dict[str, Removal], Interval]:
    """Ablate every direction in insecure, at all layers at which it is calibrated, on the same questions.

    Args:
        trio: loaded.
        directions: by name.
        controls: ablations in insecure that are averaged.
        questions: the same for all.
        run: cache and progress.

    Returns:
        Removals by the direction's name, and the share that the controls remove.
    """
    untreated = [
        Arm("insecure", "insecure", trio.insecure),
        Arm("secure", "secure", trio["secure"], role="secure"),
    ]
    ablated = [
        Arm(name, "ablated", trio.insecure, (DirectionTarget(direction).fit(trio).ablation(),))
        for name, direction in directions.items()
    ]
    measured = measure_gaps([*untreated, *ablated, *controls], questions, run)
    insecure, secure, *others = (np.asarray(arm.gaps) for arm in measured)
    resamples = Resamples.of_families(questions.families)
    shift = difference(insecure, secure, resamples)
    removals = {
        name: Removal(
            shift,
            difference(insecure, gaps, resamples),
            share_of_shift(insecure - gaps, insecure - secure, resamples),
        )
        for name, gaps in zip(directions, others[: len(directions)], strict=True)
    }
    return removals, random_fraction(insecure, secure, others[len(directions) :], resamples)
