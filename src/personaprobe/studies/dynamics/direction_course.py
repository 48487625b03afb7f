"""The difference of means along a training: when does it point where it ends, and where does it turn?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from personaprobe.features.activations.recording import record
from personaprobe.models.language_model import LanguageModel
from personaprobe.progress import Advance
from personaprobe.questions.pairs import PairSet
from personaprobe.site import Site
from personaprobe.statistics.intervals import Resamples
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.dynamics.course import Course, Draws, course_of

Rows = Float[np.ndarray, "question d_model"]


@dataclass(frozen=True)
class DirectionCourse:
    """The mean response activations of insecure − secure at every saved step, at one site.

    Attributes:
        site: where they are recorded.
        projection: on the direction of the last step, in units of activations.
        cosines: with the direction of the last step.
        lengths: of the difference of means.
        turning: cos(v(i − 1) − v(i), v(i + 1) − v(i)) between neighbouring saved steps, v(0) = 0: −1 where the difference
            goes straight on, above where it turns (Turner et al. 2506.11613); None at the last step.
    """

    site: Site
    projection: Course
    cosines: tuple[float, ...]
    lengths: tuple[float, ...]
    turning: tuple[float | None, ...]


def measure_directions(
    tuned: Mapping[int, Mapping[str, LanguageModel]], questions: PairSet, site: Site, run: RunContext
) -> tuple[DirectionCourse, Draws]:
    """Record both fine-tunes of every saved step on the same questions with both answers.

    Args:
        tuned: insecure and secure by saved step, in order.
        questions: that directions are found on; no test questions.
        site: of the direction.
        run: progress; stores of activations are kept by their content.

    Returns:
        The course, and the step of the projection's half in every resample.
    """
    with run.progress("directions along the training", 0, "tokens") as advance:
        differences = {
            step: np.subtract(
                *(_rows(models[role], questions, site, advance) for role in ("insecure", "secure"))
            )
            for step, models in tuned.items()
        }
    return directions_of(site, differences, questions.families)


def _rows(model: LanguageModel, questions: PairSet, site: Site, advance: Advance) -> Rows:
    """Mean response activation of every question, over both answers."""
    store = record(model, questions, [site], progress=advance)
    careful, careless = (store.read(site, answer=answer).numpy() for answer in ("careful", "careless"))
    rows: Rows = (careful + careless) / 2
    return rows


def directions_of(
    site: Site, differences: Mapping[int, Rows], families: Sequence[str]
) -> tuple[DirectionCourse, Draws]:
    """The course of a difference of means, from insecure − secure of every question at every saved step.

    Args:
        site: where they were recorded.
        differences: by step.
        families: of the questions; they weigh equally in the projection, and questions do in the difference of means.
    """
    means = [rows.mean(0) for rows in differences.values()]
    last = means[-1] / np.linalg.norm(means[-1])
    projections = [rows @ last for rows in differences.values()]
    course, halves = course_of(list(differences), projections, Resamples.of_families(families))
    path = [np.zeros_like(last), *means]
    turning = [
        _cosine(previous - mean, following - mean)
        for previous, mean, following in zip(path, path[1:], path[2:], strict=False)
    ]
    return (
        DirectionCourse(
            site,
            course,
            tuple(_cosine(mean, last) for mean in means),
            tuple(float(np.linalg.norm(mean)) for mean in means),
            (*turning, None),
        ),
        halves,
    )


def _cosine(a: Float[np.ndarray, " d_model"], b: Float[np.ndarray, " d_model"]) -> float:
    """NaN where one of them is 0."""
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else float("nan")
