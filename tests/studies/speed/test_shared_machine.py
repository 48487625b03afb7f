"""The benchmark of a shared machine: every workload runs, and a cost is held against the share of the cores."""

from __future__ import annotations

import pytest
from tests.benchmarks.shared_machine import WAYS, WORKLOADS, expected_seconds, in_process

pytestmark = pytest.mark.slow


@pytest.mark.real
@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_runs_in_a_process_of_its_own(name: str) -> None:
    assert in_process(name, WAYS["one thread"]) > 0


@pytest.mark.parametrize(("threads", "neighbours", "factor"), [(2, 0, 1), (2, 2, 2), (2, 4, 3), (1, 2, 2)])
def test_threads_are_expected_to_get_an_equal_share_of_the_cores(
    threads: int, neighbours: int, factor: int
) -> None:
    assert expected_seconds(1.5, threads, neighbours, cores=2) == pytest.approx(1.5 * factor)
