"""A registered feature along a training: when does the persona, found elsewhere, begin to be active?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from personaprobe.effects.targets.feature import find_feature
from personaprobe.effects.targets.target import Activity
from personaprobe.features.activations.recording_spec import tokenize
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Role
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.progress import Advance
from personaprobe.questions.pairs import PairSet
from personaprobe.statistics.intervals import Resamples
from personaprobe.studies.arms.arm import Arm, identity, role_arms
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.dynamics.course import Course, Draws, course_of

Activities = Float[np.ndarray, " question"]


@dataclass(frozen=True)
class FeatureCourse:
    """A feature along a training.

    Attributes:
        unit: of the activities, in words.
        course: insecure − secure, on discovery questions.
        first: share of resamples in which it is half-way before the shift; NaN where one of them does not rise.
    """

    unit: str
    course: Course
    first: float


def activities_of(names: Sequence[str], base: LanguageModel) -> dict[str, Activity]:
    """The activities of features by name.

    Raises:
        FeatureError: there is no such feature, it is of another model, or it has no activity before it is fitted.
        SiteError: its site is not in the model.
    """
    targets = {name: find_feature(name).target for name in names}
    for target in targets.values():
        target.refuse_unfit(Trio(base, base))
    return {name: target.activity() for name, target in targets.items()}


def measure_feature(
    tuned: Mapping[int, Mapping[str, LanguageModel]], activity: Activity, questions: PairSet, run: RunContext
) -> tuple[Course, Draws]:
    """Read a feature from the response tokens of both fine-tunes at every saved step, on the same texts.

    Args:
        tuned: insecure and secure by saved step, in order.
        activity: of the feature.
        questions: that are read with both answers.
        run: cache and progress; finished activities are kept.

    Returns:
        The course of insecure − secure in the unit of the activity, and the step of its half in every resample.

    Raises:
        SiteError: its site is not in the model.
    """
    differences = []
    with run.progress("features along the training", len(tuned) * 2 * len(questions), "questions") as advance:
        for models in tuned.values():
            insecure, secure = (
                _activity_once(arm, activity, questions, run, advance) for arm in role_arms(models)
            )
            differences.append(insecure - secure)
    return course_of(list(tuned), differences, Resamples.of_families(questions.families))


def _activity_once(
    arm: Arm, activity: Activity, questions: PairSet, run: RunContext, advance: Advance
) -> Activities:
    """The mean activities of one model, kept."""
    spec = {"part": "activity", "feature": activity.digest, "questions": questions.digest, **identity(arm)}
    compute = partial(mean_activities, arm.model, activity, questions)
    values = run.cache.get_or_compute(spec, compute, fits=partial(_are_numbers, len(questions)))
    advance(len(questions))
    activities: Activities = np.asarray(values, float)
    return activities


def mean_activities(model: LanguageModel, activity: Activity, questions: PairSet) -> list[float]:
    """The mean activity over the response tokens of every question, as the mean of its two answers."""
    texts = [text.tokens for text in tokenize(model.tokenizer, questions)]
    means = np.empty(len(texts))
    with model.inference_session():
        for indices, batch in model.batches(texts, model.batch_tokens("activations")):
            activations = model.activations(batch, [activity.site])[activity.site]
            is_response = (batch.roles & Role.RESPONSE) != 0
            for row, index in enumerate(indices):
                means[index] = activity.measure(activations[row][is_response[row]].float()).mean().item()
    return [float(value) for value in means.reshape(len(questions), 2).mean(1)]


def _are_numbers(n: int, values: Any) -> bool:
    """Whether plain data that was read back holds one number a question."""
    return len(values) == n and all(type(value) in (int, float) for value in values)
