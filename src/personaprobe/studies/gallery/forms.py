"""The shift of an organism where answers have another form, and what ablations remove of it there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from personaprobe.features.directions.direction import Direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.formats import AnswerForm
from personaprobe.questions.pairs import PairSet
from personaprobe.statistics.families import Values
from personaprobe.statistics.intervals import Interval, Resamples, difference
from personaprobe.studies.arms.measurement import measure_gaps
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.gallery.removals import ablated_arm, insecure_and_secure, removals_of

PLAIN = "plain"


@dataclass(frozen=True)
class FormEffect:
    """One organism's shift in one form of answers.

    Attributes:
        shift: insecure − secure preference for careless answers, nats per token.
        over_plain: by which the form raises the shift, paired by question; 0 for plain answers.
        removed: share of the shift that the ablation of each direction removes, by its name.
    """

    shift: Interval
    over_plain: Interval
    removed: Mapping[str, Interval]


def measure_forms(
    trio: Trio[LanguageModel],
    directions: Mapping[str, Direction],
    questions: PairSet,
    forms: Sequence[AnswerForm],
    run: RunContext,
) -> dict[str, FormEffect]:
    """Measure the shift on the same questions in every form, plain answers first.

    Args:
        trio: loaded.
        directions: that are ablated in insecure, by name.
        questions: in plain form.
        forms: others.
        run: cache and progress.
    """
    ablated = [ablated_arm(trio, name, direction) for name, direction in directions.items()]
    arms = [*insecure_and_secure(trio), *ablated]
    sets = {PLAIN: questions, **{form.name: form.apply(questions) for form in forms}}
    gaps = {name: [arm.gaps for arm in measure_gaps(arms, of_form, run)] for name, of_form in sets.items()}
    return effects_of(gaps, list(directions), questions.families)


def effects_of(
    gaps: Mapping[str, Sequence[Values]], directions: Sequence[str], families: Sequence[str]
) -> dict[str, FormEffect]:
    """Compute effects from preference gaps.

    Args:
        gaps: by form, plain first: of insecure, of secure, and of insecure with each direction ablated.
        directions: names, in that order.
        families: of the questions; they weigh equally.
    """
    resamples = Resamples.of_families(families)
    shifts = {form: np.asarray(of_form[0]) - np.asarray(of_form[1]) for form, of_form in gaps.items()}
    effects = {}
    for form, (insecure, secure, *ablated) in gaps.items():
        treated = {name: [without] for name, without in zip(directions, ablated, strict=True)}
        removals = removals_of(insecure, secure, treated, families)
        shares = {name: removal.share for name, removal in removals.by_direction.items()}
        over_plain = difference(shifts[form], shifts[PLAIN], resamples)
        effects[form] = FormEffect(removals.shift, over_plain, shares)
    return effects
