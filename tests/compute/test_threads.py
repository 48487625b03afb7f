"""Threads follow the load: all cores on a quiet machine, fewer beside others' work, and the user's choice always."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaprobe.compute.threads import ThreadCount, threads_of_others


def chosen(*others: float | None, most: int = 2, n_cores: int = 2, short: bool = True) -> list[int]:
    """The number of threads after each look at so many threads of others."""
    looks = iter(others)
    count = ThreadCount(most, n_cores, lambda: next(looks))
    result = []
    for _ in others:
        count.look()
        result.append(count.threads(short=short))
    return result


@pytest.mark.parametrize("short", [True, False])
def test_a_quiet_machine_gives_all_threads_and_a_neighbour_takes_one(short: bool) -> None:
    assert chosen(0, 0, 0, short=short) == [2, 2, 2]
    assert chosen(1, 1, 1, short=short) == [1, 1, 1]
    assert chosen(0, 1, 1, 1, 0, 0, short=short)[-4:] == [1, 1, 2, 2]


def test_what_runs_for_a_moment_only_changes_nothing() -> None:
    assert chosen(0, 0, 1, 0, 0, 1, 0) == [2] * 7


def test_where_others_want_every_core_long_operations_keep_their_threads_and_short_ones_have_one() -> None:
    assert chosen(2, 2, 2, short=True)[-1] == 1
    assert chosen(2, 2, 2, short=False)[-1] == 2
    assert chosen(9, 9, most=8, n_cores=8, short=False)[-1] == 8


def test_on_many_cores_only_those_that_others_want_are_left_to_them() -> None:
    assert chosen(3, 3, most=64, n_cores=64)[-1] == 61
    assert chosen(3, 3, most=4, n_cores=64)[-1] == 4


@given(
    st.integers(1, 64), st.lists(st.floats(0, 90), min_size=1, max_size=6), st.integers(1, 64), st.booleans()
)
def test_there_is_never_less_than_one_thread_nor_more_than_the_most(
    n_cores: int, others: list[float], most: int, short: bool
) -> None:
    assert all(1 <= n <= most for n in chosen(*others, most=most, n_cores=n_cores, short=short))


def test_a_machine_that_cannot_be_read_keeps_the_most() -> None:
    assert chosen(None, None, most=4) == [4, 4]


@pytest.mark.skipif(not os.path.exists("/proc/loadavg"), reason="reads the load of Linux")
def test_a_program_that_fills_a_core_is_seen() -> None:
    fills = [sys.executable, "-c", "print(flush=True)\nwhile True:\n    pass"]
    with subprocess.Popen(fills, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            looks = [threads_of_others() for _ in range(9)]
        finally:
            other.kill()
    assert sorted(n for n in looks if n is not None)[len(looks) // 2] >= 1


PROGRAM = """
import torch
from personaprobe.compute import threads
torch.set_num_threads(2)
{follow}
threads.FOLLOWER.count = threads.ThreadCount(2, 2, lambda: 1.0)
threads.adapt_threads(short=True)
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
