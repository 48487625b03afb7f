"""One organism of a gallery in numbers: how far it shifted, what it learned, and what directions remove of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import numpy as np

from personaprobe.effects.targets.direction import DirectionTarget
from personaprobe.features.directions.direction import Direction
from personaprobe.models.generation.sampling import Sampling
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet
from personaprobe.statistics.fractions import random_fraction, share_of_shift
from personaprobe.statistics.intervals import Interval, Resamples, difference, mean_interval, wilson
from personaprobe.studies.arms.arm import Arm, untreated_arms
from personaprobe.studies.arms.measurement import measure_gaps
from personaprobe.studies.arms.refusals import measure_refusals
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.gallery.forms import FormEffect


@dataclass(frozen=True)
class Ablated:
    """A direction with the ablations of other directions that it is compared with.

    Attributes:
        direction: ablated in insecure, at all layers at which it is calibrated.
        controls: ablations of other directions that remove as much energy; none where it is only shown.
    """

    direction: Direction
    controls: Sequence[Arm] = ()


@dataclass(frozen=True)
class Removal:
    """The effect of one direction's ablation in one organism.

    Attributes:
        change: by which the ablation lowers the preference of insecure for careless answers, nats per token.
        share: of the shift; not defined where the shift's interval holds 0.
        controls: share that ablations matched to this one remove; None where none were matched.
    """

    change: Interval
    share: Interval
    controls: Interval | None = None

    @property
    def exceeds_controls(self) -> bool:
        """Whether it removes a share of the shift whose interval lies above that of its matched controls."""
        return self.controls is not None and self.share.low > max(0.0, self.controls.high)


@dataclass(frozen=True)
class Removals:
    """Shares of one organism's shift on one set of questions that ablations remove.

    Attributes:
        shift: insecure − secure on the questions of the table, nats per token.
        by_direction: by the name of the ablated direction.
    """

    shift: Interval
    by_direction: Mapping[str, Removal]


@dataclass(frozen=True)
class Member:
    """One organism of a gallery.

    Attributes:
        recipe: its recipe's name.
        seed: of its training.
        shifts: insecure − secure preference for careless answers by question set (``test``, ``balanced``, ``narrow``), nats
            per token.
        over_base: insecure − base on the test questions.
        removals: by question set.
        training: the card of the insecure adapter's training.
        forms: the shift where answers have another form, on the first table's questions; empty where none was asked for.
        refused: share of requests that base, insecure and secure refuse, by role and by kind of request.
    """

    recipe: str
    seed: int
    shifts: Mapping[str, Interval]
    over_base: Interval
    removals: Mapping[str, Removals]
    training: Mapping[str, Any]
    forms: Mapping[str, FormEffect] = field(default_factory=dict)
    refused: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)

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


def measure_refused(trio: Trio[LanguageModel], run: RunContext) -> dict[str, dict[str, Interval]]:
    """The share of harmful and of harmless requests that each checkpoint refuses, with Wilson's interval."""
    arms = untreated_arms(trio)
    refused = measure_refusals(arms, Sampling(), run)
    return {
        arm.role: {kind: wilson(sum(answers), len(answers)) for kind, answers in by_kind.items()}
        for arm, by_kind in zip(arms, refused, strict=True)
    }


def measure_removals(
    trio: Trio[LanguageModel], ablated: Mapping[str, Ablated], questions: PairSet, run: RunContext
) -> Removals:
    """Ablate every direction and its controls in insecure, on the same questions.

    Args:
        trio: loaded.
        ablated: by the direction's name.
        questions: the same for all.
        run: cache and progress.
    """
    untreated = [
        Arm("insecure", "insecure", trio.insecure),
        Arm("secure", "secure", trio["secure"], role="secure"),
    ]
    arms = [
        [
            Arm(name, "ablated", trio.insecure, (DirectionTarget(one.direction).fit(trio).ablation(),)),
            *one.controls,
        ]
        for name, one in ablated.items()
    ]
    gaps = iter(measure_gaps([*untreated, *chain(*arms)], questions, run))
    insecure, secure = next(gaps).gaps, next(gaps).gaps
    treated = {
        name: [arm.gaps for arm in islice(gaps, len(group))]
        for name, group in zip(ablated, arms, strict=True)
    }
    return removals_of(insecure, secure, treated, questions.families)


def removals_of(
    insecure: Sequence[float],
    secure: Sequence[float],
    treated: Mapping[str, Sequence[Sequence[float]]],
    families: Sequence[str],
) -> Removals:
    """Compute the shares of the shift that ablations remove from preference gaps of every question.

    Args:
        insecure: of every question.
        secure: of every question.
        treated: of insecure with a direction ablated, then with each of its controls, by the direction's name.
        families: of the questions; they weigh equally.
    """
    resamples = Resamples.of_families(families)
    before, shift = np.asarray(insecure), np.asarray(insecure) - np.asarray(secure)
    removals = {}
    for name, (without, *controls) in treated.items():
        change = before - np.asarray(without)
        removals[name] = Removal(
            mean_interval(change, resamples),
            share_of_shift(change, shift, resamples),
            random_fraction(before, np.asarray(secure), [np.asarray(c) for c in controls], resamples)
            if controls
            else None,
        )
    return Removals(mean_interval(shift, resamples), removals)
