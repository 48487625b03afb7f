"""The course of a measure: planted rises are timed where they were planted, and what does not rise has no time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaprobe.statistics.intervals import Resamples
from personaprobe.studies.dynamics.course import course_of, half_time, share_earlier

STEPS = (10, 20, 30, 40, 50)
FAMILIES = [f"family-{index % 8}" for index in range(80)]
RESAMPLES = Resamples.of_families(FAMILIES)


def planted(times: float, noise: float = 0.1, seed: int = 0) -> list[np.ndarray]:
    """Differences by step that rise linearly and reach their last value, 1, at a step."""
    rng = np.random.default_rng(seed)
    return [min(1.0, step / times) + noise * rng.normal(size=len(FAMILIES)) for step in STEPS]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 0, 0, 1, 1, 1], 25), ([0, 1, 1, 1, 1, 1], 5), ([0, 0, 0, 0, 0, 1], 45), ([0, 0, 0.5, 1, 1, 1], 20)],
)
def test_the_half_is_interpolated_between_saved_steps(values: list[float], expected: float) -> None:
    assert half_time((0, *STEPS), values) == pytest.approx(expected)


@pytest.mark.parametrize("values", [[0, 0, 0, 0, 0, 0], [0, 1, 2, 1, 0, -1]])
def test_what_does_not_end_above_its_start_has_no_half(values: list[float]) -> None:
    assert math.isnan(half_time((0, *STEPS), values))


@given(st.lists(st.floats(-5, 5), min_size=5, max_size=5), st.floats(0.1, 10))
def test_the_half_does_not_depend_on_the_unit(values: list[float], factor: float) -> None:
    one, other = (
        half_time((0, *STEPS), [0, *values]),
        half_time((0, *STEPS), [0, *(factor * v for v in values)]),
    )
    assert one == pytest.approx(other, nan_ok=True, abs=1e-6)


def test_the_interval_of_the_half_holds_the_planted_step_and_the_order_is_seen() -> None:
    early, early_halves = course_of(STEPS, planted(20), RESAMPLES)
    late, late_halves = course_of(STEPS, planted(50, seed=1), RESAMPLES)
    assert early.half.low <= 10 <= early.half.high < late.half.low <= 25 <= late.half.high
    assert early.half.value == pytest.approx(10, abs=1.5)
    assert share_earlier(early_halves, late_halves) > 0.99
    assert share_earlier(late_halves, early_halves) < 0.01
    assert share_earlier(early_halves, early_halves) == 0.5
    assert early.steps == (0, *STEPS)
    assert (early.intervals[0].low, early.intervals[0].high) == (0, 0)


def test_without_a_rise_there_is_no_half_and_no_order() -> None:
    rng = np.random.default_rng(0)
    flat, halves = course_of(STEPS, [rng.normal(size=len(FAMILIES)) for _ in STEPS], RESAMPLES)
    _, others = course_of(STEPS, planted(20), RESAMPLES)
    assert not flat.half.defined
    assert math.isnan(share_earlier(halves, others))
