"""Threads follow the load: all cores on a quiet machine, fewer beside others' work, and the user's choice always."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaprobe.compute.threads import IGNORED_CORES, INTERVAL_SECONDS, CpuTimes, ThreadCount, cpu_times


def machine(*seconds: tuple[float, float, float], n_cores: int = 2) -> Iterator[CpuTimes]:
    """Clocks of a machine: seconds of the wall clock, of others and of this process, from one look to the next."""
    wall = used = by_process = 100.0
    yield CpuTimes(wall, used, by_process, n_cores)
    for passed, others, ours in seconds:
        wall, used, by_process = wall + passed, used + others + ours, by_process + ours
        yield CpuTimes(wall, used, by_process, n_cores)


def chosen(*seconds: tuple[float, float, float], most: int = 2, n_cores: int = 2) -> list[int]:
    clocks = machine(*seconds, n_cores=n_cores)
    count, threads = ThreadCount(most, lambda: next(clocks)), most
    result = []
    for _ in seconds:
        threads = count.threads(threads)
        result.append(threads)
    return result


def test_a_quiet_machine_gives_all_threads_and_a_neighbour_takes_one() -> None:
    assert chosen((1, 0.05, 1.9), (1, 0.9, 1.1), (1, 1.0, 1.0), (1, 0.02, 1.0)) == [2, 1, 1, 2]


def test_more_neighbours_than_cores_leave_one_thread() -> None:
    assert chosen((1, 1.8, 0.2)) == [1]
    assert chosen((1, 7.0, 1.0), most=8, n_cores=8) == [1]


def test_a_short_moment_changes_nothing() -> None:
    assert chosen((INTERVAL_SECONDS / 2, 0.15, 0.1), (INTERVAL_SECONDS / 3, 0.1, 0.1)) == [2, 2]


def test_two_processes_that_follow_the_load_share_the_cores_and_stay_there() -> None:
    """Each sees the other's threads: both go down to one, and none goes up again while the other works."""
    assert chosen((1, 1.0, 1.0), (1, 1.0, 1.0), (1, 1.0, 1.0)) == [1, 1, 1]


@given(st.integers(1, 64), st.floats(0, 80), st.integers(1, 64))
def test_there_is_never_less_than_one_thread_nor_more_than_the_most(
    n_cores: int, others: float, most: int
) -> None:
    [threads] = chosen((1, others, 0.5), most=most, n_cores=n_cores)
    assert 1 <= threads <= most
    if others <= IGNORED_CORES / 2:
        assert threads == min(most, n_cores)


def test_a_machine_that_cannot_be_read_keeps_the_current_number() -> None:
    assert ThreadCount(4, lambda: None).threads(3) == 3


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="reads the clocks of Linux")
def test_the_clocks_of_this_machine_see_this_process() -> None:
    before = cpu_times()
    assert before is not None
    while (after := cpu_times()) is not None and after.by_process - before.by_process < 0.2:
        sum(range(10_000))
    assert after is not None
    assert after.n_cores == len(os.sched_getaffinity(0))
    # the machine's clock counts hundredths of seconds
    assert after.used - before.used >= 0.1


PROGRAM = """
import os, time, torch
from personaprobe.compute import threads
torch.set_num_threads(2)
{follow}
clocks = threads.CpuTimes
looks = iter([clocks(0, 0, 0, 2), clocks(5, 5, 0, 2)])
threads.FOLLOWER.count = threads.ThreadCount(2, lambda: next(looks))
threads.adapt_threads()
print(torch.get_num_threads())
"""


@pytest.mark.parametrize(
    ("follow", "settings", "threads"),
    [
        ("threads.follow_load()", {}, 1),
        ("threads.follow_load()", {"OMP_NUM_THREADS": "2"}, 2),
        ("", {}, 2),
    ],
)
def test_programs_follow_the_load_unless_the_user_chose_and_libraries_never_do(
    follow: str, settings: dict[str, str], threads: int
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(follow=follow)],
        env={**environment, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(threads)]
