"""The benchmark of a shared machine: every workload runs, and a cost is held against the share of the cores."""

from __future__ import annotations

import pytest
from tests.benchmarks.shared_machine import ONE_THREAD, WAYS, WORKLOADS, costs, equal_share, in_process


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_runs_in_a_process_of_its_own(name: str) -> None:
    [taken] = in_process(name, WAYS[ONE_THREAD], [0]).values()
    assert taken > 0


def test_a_team_that_gets_its_share_costs_one_and_one_that_waits_costs_more() -> None:
    # beside two neighbours on two cores, one thread alone gets two thirds of a core, and each of two gets half
    fair = {("spin", 0): 1.0, (ONE_THREAD, 0): 1.8, ("spin", 2): 2.0, (ONE_THREAD, 2): 2.7}
    rows = {(row["way"], row["neighbours"]): row for row in costs("w", fair, cores=2)}
    assert [rows["spin", n][by] for n in (0, 2) for by in ("share", "measured share")] == [1, 1, 1, 1]
    rows = {(row["way"], row["neighbours"]): row for row in costs("w", {**fair, ("spin", 2): 6.0}, cores=2)}
    assert rows["spin", 2]["share"] == rows["spin", 2]["measured share"] == 3


@pytest.mark.parametrize(
    ("threads", "neighbours", "share"), [(2, 0, 1), (2, 2, 1 / 2), (2, 4, 1 / 3), (1, 1, 1)]
)
def test_threads_get_equal_shares_of_the_cores(threads: int, neighbours: int, share: float) -> None:
    assert equal_share(threads, neighbours, cores=2) == share
