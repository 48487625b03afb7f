"""As many threads as there are cores that other work leaves free, looked at again while the work goes on.

Threads of one operation wait for each other. Where one of them has to wait for a core, all wait, thousands of times in
a pass: beside one process that filled a core, a training step on two threads took 15 times as long as on one (AMD EPYC,
two cores; ``tests/benchmarks/README.md``). A training's weights are the same to the bit on any number of threads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

INTERVAL_SECONDS = 0.3
"""Shortest time between two looks at the machine."""

IGNORED_CORES = 0.25
"""Cores that other work may fill without a thread less."""

SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables by which a user chooses the number of threads."""


@dataclass(frozen=True)
class CpuTimes:
    """Seconds of processor time until a moment.

    Attributes:
        wall: time of the clock.
        used: by all programs, on the cores that this process may use.
        by_process: by this one.
        n_cores: cores that this process may use.
    """

    wall: float
    used: float
    by_process: float
    n_cores: int


Look: TypeAlias = Callable[[], "CpuTimes | None"]


class ThreadCount:
    """The number of threads for the work that follows, by what others used of the cores since the last look."""

    def __init__(self, most: int, look: Look) -> None:
        """Look for the first time.

        Args:
            most: threads on a quiet machine.
            look: reads the machine's clocks; None where it cannot.
        """
        self.most = most
        self._look = look
        self._last = look()

    def threads(self, current: int) -> int:
        """The number of threads; the current one where too little time has passed, or the machine cannot be read.

        Args:
            current: number of threads since the last look.
        """
        now = self._look()
        if now is None or self._last is None:
            return current
        seconds = now.wall - self._last.wall
        if seconds < INTERVAL_SECONDS:
            return current
        others = ((now.used - self._last.used) - (now.by_process - self._last.by_process)) / seconds
        self._last = now
        return max(1, min(self.most, int(now.n_cores - others + IGNORED_CORES)))


class LoadFollower:
    """Sets the number of torch's threads by the load, once it was started.

    Attributes:
        count: chooses the number; None before the first look.
    """

    def __init__(self) -> None:
        """Change nothing until :meth:`start`."""
        self.count: ThreadCount | None = None
        self._is_on = False
        self._next_look = 0.0

    def start(self) -> None:
        """Follow the load from now on, unless the user chose a number of threads."""
        self._is_on = not any(name in os.environ for name in SETTINGS)

    def adapt(self) -> None:
        """Look at the load if the last look is old, and set the number of threads."""
        if not self._is_on or time.monotonic() < self._next_look:
            return
        import torch

        self._next_look = time.monotonic() + INTERVAL_SECONDS
        current = torch.get_num_threads()
        self.count = self.count or ThreadCount(current, cpu_times)
        wanted = self.count.threads(current)
        if wanted != current:
            torch.set_num_threads(wanted)


FOLLOWER = LoadFollower()
"""Of this process."""


def follow_load() -> None:
    """Let :func:`adapt_threads` choose from now on, unless the user chose a number; for programs, not for libraries."""
    FOLLOWER.start()


def adapt_threads() -> None:
    """Choose the number of threads for the work that follows; cheap enough to be called before every pass."""
    FOLLOWER.adapt()


def cpu_times() -> CpuTimes | None:
    """Read the clocks of Linux; None elsewhere, where others' use of the cores is not known."""
    try:
        cores = os.sched_getaffinity(0)
        ticks = os.sysconf("SC_CLK_TCK")
        with open("/proc/stat", encoding="ascii") as lines:
            fields = [line.split() for line in lines if line.startswith("cpu")]
        rows = [row for row in fields if row[0][3:].isdigit() and int(row[0][3:]) in cores]
        return CpuTimes(time.monotonic(), sum(map(_used_ticks, rows)) / ticks, time.process_time(), len(rows))
    except (AttributeError, OSError, ValueError, IndexError):
        return None


def _used_ticks(row: list[str]) -> int:
    """Ticks of a core in programs, niced programs, the system and interrupts; not those in which it had nothing to do."""
    user, nice, system, _idle, _waiting, interrupts, soft = map(int, row[1:8])
    return user + nice + system + interrupts + soft
