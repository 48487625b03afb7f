"""Shares of one organism's shift that the ablation of directions removes, beside controls that are matched to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from personaprobe.effects.targets.direction import DirectionTarget
from personaprobe.features.directions.direction import Direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet
from personaprobe.statistics.families import Values
from personaprobe.statistics.fractions import random_fraction, share_of_shift
from personaprobe.statistics.intervals import Interval, Resamples, mean_interval
from personaprobe.studies.arms.arm import Arm, role_arms
from personaprobe.studies.arms.measurement import measure_gaps
from personaprobe.studies.arms.run_context import RunContext


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
    arms = [[ablated_arm(trio, name, one.direction), *one.controls] for name, one in ablated.items()]
    gaps = iter(measure_gaps([*insecure_and_secure(trio), *chain(*arms)], questions, run))
    insecure, secure = next(gaps).gaps, next(gaps).gaps
    treated = {
        name: [arm.gaps for arm in islice(gaps, len(group))]
        for name, group in zip(ablated, arms, strict=True)
    }
    return removals_of(insecure, secure, treated, questions.families)


def insecure_and_secure(trio: Trio[LanguageModel]) -> list[Arm]:
    """Both fine-tunes without intervention, whose difference is the shift."""
    return role_arms({"insecure": trio.insecure, "secure": trio["secure"]})


def ablated_arm(trio: Trio[LanguageModel], name: str, direction: Direction) -> Arm:
    """A direction ablated in insecure, at all layers at which it is calibrated."""
    return Arm(name, "ablated", trio.insecure, (DirectionTarget(direction).fit(trio).ablation(),))


def removals_of(
    insecure: Values,
    secure: Values,
    treated: Mapping[str, Sequence[Values]],
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
