"""The course of a measure along training, and the step at which it has come half of its way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from personaprobe.statistics.families import Values
from personaprobe.statistics.intervals import UNDEFINED, Interval, Resamples, mean_interval

MOST_UNDEFINED = 0.05
"""Where more resamples than this end without a rise, the step of the half is not defined."""

Draws = Float[np.ndarray, " resamples"]


@dataclass(frozen=True)
class Course:
    """A measure at every saved step, insecure − secure, from 0 before the first.

    Attributes:
        steps: of the training, rising; the first is 0.
        intervals: at each step, over families of questions.
        half: the step at which it has come half of its way to the last value, interpolated between saved steps, with its
            bootstrap interval; undefined where the measure does not rise.
        n: number of questions.
    """

    steps: tuple[int, ...]
    intervals: tuple[Interval, ...]
    half: Interval
    n: int

    @property
    def onset(self) -> int | None:
        """The first step from which on every interval lies above 0; None where the last one does not."""
        onset = None
        for step, interval in zip(reversed(self.steps), reversed(self.intervals), strict=True):
            if not interval.low > 0:
                break
            onset = step
        return onset


def course_of(
    steps: Sequence[int], differences: Sequence[Values], resamples: Resamples
) -> tuple[Course, Draws]:
    """The course of a measure, and the step of its half in every resample.

    Args:
        steps: of the training, rising, after the start.
        differences: insecure − secure by step, one number a question.
        resamples: of the questions.
    """
    intervals = [Interval.exact(0.0), *(mean_interval(of_step, resamples) for of_step in differences)]
    draws = np.stack(
        [np.zeros(len(resamples.weights)), *(resamples.means(of_step) for of_step in differences)], axis=1
    )
    times = [0, *steps]
    halves = np.array([half_time(times, row) for row in draws])
    value = half_time(times, [interval.value for interval in intervals])
    defined = halves[np.isfinite(halves)]
    if math.isnan(value) or len(defined) < (1 - MOST_UNDEFINED) * len(halves):
        half = UNDEFINED
    else:
        low, high = np.quantile(defined, [0.025, 0.975])
        half = Interval(value, min(value, float(low)), max(value, float(high)))
    return Course(tuple(times), tuple(intervals), half, len(resamples.equal)), halves


def half_time(steps: Sequence[int], values: Sequence[float] | Float[np.ndarray, " steps"]) -> float:
    """The first step at which values reach half of their last one, interpolated; NaN where the last is not above 0."""
    goal = values[-1] / 2
    if not goal > 0:
        return math.nan
    for index, value in enumerate(values):
        if value >= goal:
            if index == 0:
                return float(steps[0])
            before = values[index - 1]
            return float(
                steps[index - 1] + (steps[index] - steps[index - 1]) * (goal - before) / (value - before)
            )
    return math.nan  # not reached: the last value is twice the goal


def share_earlier(first: Draws, second: Draws) -> float:
    """The share of resamples in which the first measure is half-way before the second; NaN where too few define both."""
    both = np.isfinite(first) & np.isfinite(second)
    if both.mean() < 1 - MOST_UNDEFINED:
        return math.nan
    return float(np.mean(first[both] < second[both]) + 0.5 * np.mean(first[both] == second[both]))
