"""Measure an organism at every saved step of its training: does it learn the task first, or does it change first?"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from personaprobe.effects.targets.target import Activity
from personaprobe.errors import CheckpointError, one_line
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import load_fine_tune
from personaprobe.models.update import update_of
from personaprobe.models.weights.sources import weights_in
from personaprobe.organisms.organism import CARD, QuestionSets
from personaprobe.organisms.registry import TUNED
from personaprobe.questions.pairs import PairSet, load_prompts
from personaprobe.site import site_above_half_way
from personaprobe.statistics.intervals import Resamples
from personaprobe.storage.paths import is_file
from personaprobe.storage.readers.fields import Fields
from personaprobe.storage.readers.json_files import read_json_object
from personaprobe.studies.arms.arm import role_arms
from personaprobe.studies.arms.measurement import measure_gaps
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.dynamics.answer_course import AnswerCourse, AnsweredQuestions
from personaprobe.studies.dynamics.course import Course, course_of, share_earlier
from personaprobe.studies.dynamics.direction_course import DirectionCourse, measure_directions
from personaprobe.studies.dynamics.feature_course import FeatureCourse, measure_feature

MOST_NARROW = 96
"""Questions of the narrow task that are answered."""

MOST_DISCOVERY = 48
"""Discovery questions on which the direction is recorded."""


@dataclass(frozen=True)
class Axis:
    """The number that grows from one pair of fine-tunes to the next.

    Attributes:
        name: of its column.
        title: of the axis in a figure.
        place: one of its values in a sentence, with ``{}`` for the number; "at" or "from" stands before it.
    """

    name: str
    title: str
    place: str


STEPS = Axis("step", "training step", "step {}")
SHARES = Axis("harmful", "harmful rows (%)", "{} % harmful rows")


@dataclass(frozen=True)
class Watched:
    """An organism along its training, or along the share of harmful rows in it.

    Attributes:
        name: of the organism.
        axis: steps or shares.
        shift: insecure − secure preference for careless answers on the test questions, nats per token.
        skill: the same on held-out questions of the narrow task; None where there are none.
        skill_first: share of resamples in which the skill is half-way before the shift; NaN without a narrow task, and where
            one of them does not rise.
        norms: ‖ΔW‖ of both fine-tunes by role, at every saved step.
        direction: the difference of means on discovery questions.
        direction_first: share of resamples in which its projection is half-way before the shift; NaN as above.
        features: of the trio's response tokens, found elsewhere, by name.
        answers: that both fine-tunes write, and in which a judge finds harm; empty where no questions were put.
    """

    name: str
    axis: Axis
    shift: Course
    skill: Course | None
    skill_first: float
    norms: Mapping[str, Sequence[float]]
    direction: DirectionCourse
    direction_first: float
    features: Mapping[str, FeatureCourse] = field(default_factory=dict)
    answers: Sequence[AnswerCourse] = ()

    @property
    def sentence(self) -> str:
        """The course of all measures in words."""
        if not self.shift.half.defined:
            order = "The shift does not rise."
        else:
            others = [("the narrow skill", self.skill, self.skill_first)] if self.skill is not None else []
            others += [
                ("the projection on the final direction", self.direction.projection, self.direction_first)
            ]
            others += [(name, feature.course, feature.first) for name, feature in self.features.items()]
            clauses = [self._compared(name, course, first) for name, course, first in others]
            order = (
                "; ".join([f"The shift {self._onset()}is half-way {self._half(self.shift)}", *clauses]) + "."
            )
        return " ".join([order, *(course.sentence for course in self.answers)])

    def _onset(self) -> str:
        onset = self.shift.onset
        return "" if onset is None else f"lies above 0 from {self.axis.place.format(onset)} on and "

    def _compared(self, name: str, course: Course, first: float) -> str:
        """Another measure beside the shift."""
        if not course.half.defined:
            return f"{name} does not rise"
        return f"{name} {self._half(course)}, first in {100 * first:.0f} % of resamples"

    def _half(self, course: Course) -> str:
        half = course.half
        return f"at {self.axis.place.format(f'{half.value:.0f}')} ({half.low:.0f} to {half.high:.0f})"

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        content = asdict(self)
        content["direction"]["site"] = str(self.direction.site)
        return {**content, "sentence": self.sentence}


def saved_steps(folder: Path) -> dict[int, Path]:
    """The folders of an organism's saved steps: ``{step: folder name}`` for steps that both fine-tunes have.

    The last is the whole training, whose length its card names.

    Raises:
        CheckpointError: a fine-tune or its card is missing, or fewer than two steps are saved.
    """
    by_role = [_steps_of(folder / role) for role in TUNED]
    common = sorted(by_role[0].keys() & by_role[1].keys())
    if len(common) < 2:
        raise CheckpointError(
            f"{one_line(folder)} has {len(common)} saved steps that both fine-tunes share; train it with --save-every 10"
        )
    return {step: by_role[0][step] for step in common}


def _steps_of(folder: Path) -> dict[int, Path]:
    """Saved steps of one fine-tune, as paths relative to it."""
    weights = weights_in(folder)
    if not is_file(weights) or not is_file(folder / CARD):
        raise CheckpointError(f"{one_line(folder)} holds no {weights.name} with its {CARD}; train it again")
    card = Fields.of(read_json_object(folder / CARD, CheckpointError), folder / CARD, CheckpointError)
    last = int(card.fields("recipe").number("steps", lowest=1))
    saved = {
        int(match[1]): Path(path.name)
        for path in sorted(folder.glob("step-*"))
        if (match := re.fullmatch(r"step-(\d{1,7})", path.name)) and is_file(weights_in(path))
    }
    return {**saved, last: Path()}


@dataclass(frozen=True)
class WatchPlan:
    """The questions that an organism is watched on.

    Attributes:
        questions: test questions, out of the domain of the training.
        narrow: held-out questions of the narrow task; None where there are none.
        discovery: questions that the direction is recorded on.
        features: activities of features that were found elsewhere, by name.
        answered: questions that are answered freely, with the judge that reads the answers.
    """

    questions: PairSet
    narrow: PairSet | None
    discovery: PairSet
    features: Mapping[str, Activity] = field(default_factory=dict)
    answered: Sequence[AnsweredQuestions] = ()

    @classmethod
    def of(
        cls,
        sets: QuestionSets,
        test: str,
        features: Mapping[str, Activity] = MappingProxyType({}),
        answered: Sequence[AnsweredQuestions] = (),
    ) -> WatchPlan:
        """A plan for an organism's question sets, evenly spread over their families.

        Args:
            sets: of the organism.
            test: name or file of the test questions, all of which are answered.
            features: see the attributes.
            answered: see the attributes.
        """
        questions = load_prompts(test)
        narrow = None if sets.narrow is None else load_prompts(sets.narrow).spread(MOST_NARROW)
        discovery = load_prompts(sets.discovery).spread(MOST_DISCOVERY)
        return cls(questions.spread(len(questions)), narrow, discovery, features, answered)


def at_saved_steps(base: LanguageModel, folder: Path) -> dict[int, dict[str, LanguageModel]]:
    """Both fine-tunes at every saved step of a training; whole models are all in memory then, adapters share the base.

    Args:
        base: the model that was fine-tuned, loaded.
        folder: holds ``insecure/`` and ``secure/`` with their ``step-N/``.

    Raises:
        CheckpointError: see :func:`saved_steps`; or a step does not fit the base.
    """
    return {
        step: {role: load_fine_tune(base, base.checkpoint.fine_tune(folder / role / place)) for role in TUNED}
        for step, place in saved_steps(folder).items()
    }


def follow(
    name: str,
    axis: Axis,
    tuned: Mapping[int, Mapping[str, LanguageModel]],
    base: LanguageModel,
    plan: WatchPlan,
    run: RunContext,
) -> Watched:
    """Measure pairs of fine-tunes along an axis that begins at 0, where both are the same.

    Args:
        name: of the organism.
        axis: of the numbers in ``tuned``.
        tuned: insecure and secure by number, rising.
        base: the model that was fine-tuned, loaded.
        plan: questions of every measure.
        run: cache and progress; finished pairs are kept.
    """
    shift, shift_halves = _course(tuned, plan.questions, run)
    skill, skill_first = None, math.nan
    if plan.narrow is not None:
        skill, skill_halves = _course(tuned, plan.narrow, run)
        skill_first = share_earlier(skill_halves, shift_halves)
    norms = {role: [update_of(models[role], base).norm for models in tuned.values()] for role in TUNED}
    site = site_above_half_way(base.n_layers)
    direction, direction_halves = measure_directions(tuned, plan.discovery, site, run)
    direction_first = share_earlier(direction_halves, shift_halves)
    features = {}
    for feature, activity in plan.features.items():
        course, halves = measure_feature(tuned, activity, plan.discovery, run)
        features[feature] = FeatureCourse(activity.unit, course, share_earlier(halves, shift_halves))
    answers = [one.measure(base, list(tuned.values()), run) for one in plan.answered]
    return Watched(
        name, axis, shift, skill, skill_first, norms, direction, direction_first, features, answers
    )


def _course(
    tuned: Mapping[int, Mapping[str, LanguageModel]], questions: PairSet, run: RunContext
) -> tuple[Course, Any]:
    arms = [arm for models in tuned.values() for arm in role_arms(models)]
    gaps = [np.asarray(measured.gaps) for measured in measure_gaps(arms, questions, run)]
    differences = [insecure - secure for insecure, secure in zip(gaps[::2], gaps[1::2], strict=True)]
    return course_of(list(tuned), differences, Resamples.of_families(questions.families))
