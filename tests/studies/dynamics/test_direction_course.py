"""The difference of means along a training: straight on or turning, and when it is half-way."""

from __future__ import annotations

import numpy as np
import pytest

from personaprobe.site import Site
from personaprobe.studies.dynamics.course import share_earlier
from personaprobe.studies.dynamics.direction_course import directions_of

FAMILIES = [f"family-{index % 6}" for index in range(24)]
NOISE = 0.05


def rows(mean: list[float], seed: int) -> np.ndarray:
    """Differences of every question around a mean that they have exactly."""
    noise = NOISE * np.random.default_rng(seed).normal(size=(len(FAMILIES), len(mean)))
    return np.array(mean) + noise - noise.mean(0)


def test_a_straight_course_does_not_turn_and_points_where_it_ends() -> None:
    path = {10 * step: rows([step, step, 0], step) for step in (1, 2, 3, 4)}
    course, _ = directions_of(Site(1), path, FAMILIES)
    assert course.cosines == pytest.approx([1, 1, 1, 1])
    assert course.turning[:-1] == pytest.approx([-1, -1, -1])
    assert course.turning[-1] is None
    assert course.lengths == pytest.approx([step * 2**0.5 for step in (1, 2, 3, 4)])
    assert course.projection.half.value == pytest.approx(20, abs=1)


def test_a_course_that_turns_does_so_at_the_step_where_it_was_planted() -> None:
    """First along one axis, from step 20 along another, which is the longer way."""
    means = {10: [1, 0, 0], 20: [2, 0, 0], 30: [2, 4, 0], 40: [2, 8, 0]}
    course, halves = directions_of(
        Site(1), {step: rows(mean, step) for step, mean in means.items()}, FAMILIES
    )
    assert course.turning[:-1] == pytest.approx([-1, 0, -1], abs=1e-6)
    assert course.cosines[0] < 0.3 < course.cosines[2]
    assert course.projection.half.low > 20
    assert share_earlier(halves, np.full(len(halves), 40.0)) > 0.99
