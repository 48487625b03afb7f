"""Variants are timed in turn, per unit of work, as ratios to the reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from personaprobe.studies.speed.timing import TimedWorkload, Workload, time_workload


def test_speeds_are_taken_in_turn_and_by_the_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    now, order = [0.0], []

    def takes(name: str, seconds: float) -> Callable[[], None]:
        def run() -> None:
            order.append(name)
            now[0] += seconds

        return run

    monkeypatch.setattr("personaprobe.studies.speed.timing.time.perf_counter", lambda: now[0])
    variants = {"one": takes("one", 2.0), "ten": takes("ten", 5.0)}
    timed = time_workload(Workload("w", variants, lambda: "alike", {"ten": 10}), 3)
    assert order == ["one", "ten"] * 3
    assert isinstance(timed, TimedWorkload)
    assert timed.speeds["ten"].ratio == pytest.approx(4.0)
    assert timed.speeds["ten"].seconds == pytest.approx(0.5)
