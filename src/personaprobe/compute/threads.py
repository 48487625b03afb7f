"""As many threads as there are cores that other work leaves free, looked at again while the work goes on.

Threads of one operation wait for each other. Where one of them has to wait for a core, all wait, thousands of times in
a pass: with the library's defaults, recording beside two processes that fill a core each took 5 times as long on two threads
as on one, and training beside four 4 times (AMD EPYC, two cores; ``tests/benchmarks/README.md``). Where others want all
cores, long operations such as those of a recording still gain by a share of every core, and short ones do not. A training's
weights are the same to the bit on any number of threads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeAlias

from personaprobe.compute.openmp import running_threads

INTERVAL_SECONDS = 0.3
"""Time between two looks at the machine."""

SMOOTHING = 0.4
"""Weight of the last look: what runs for a moment only is in one of them."""

SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables by which a user chooses the number of threads."""

Look: TypeAlias = Callable[[], "float | None"]
"""Threads of other programs that want a core now; None where the machine does not say."""


class ThreadCount:
    """The number of threads for the work that follows, by how many threads of others want a core."""

    def __init__(self, most: int, n_cores: int, look: Look) -> None:
        """Know nothing of others yet.

        Args:
            most: threads on a quiet machine.
            n_cores: cores that this process may use.
            look: counts the threads of others.
        """
        self.most = most
        self.n_cores = n_cores
        self._look = look
        self._others: float | None = None

    def look(self) -> None:
        """Count the threads of others once more."""
        now = self._look()
        if now is not None:
            before = now if self._others is None else self._others
            self._others = SMOOTHING * now + (1 - SMOOTHING) * before

    def threads(self, *, short: bool) -> int:
        """The number of threads.

        Args:
            short: whether the work is a chain of short operations, in which threads often wait for each other.
        """
        if self._others is None:
            return self.most
        others = round(self._others)
        if others >= self.n_cores and not short:
            return self.most
        return max(1, min(self.most, self.n_cores - others))


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

    def adapt(self, *, short: bool) -> None:
        """Look at the load if the last look is old, and set the number of threads."""
        if not self._is_on:
            return
        import torch

        current = torch.get_num_threads()
        if self.count is None:
            self.count = ThreadCount(current, _n_cores(), threads_of_others)
        if time.monotonic() >= self._next_look:
            self.count.look()
            self._next_look = time.monotonic() + INTERVAL_SECONDS
        wanted = self.count.threads(short=short)
        if wanted != current:
            torch.set_num_threads(wanted)


FOLLOWER = LoadFollower()
"""Of this process."""


def follow_load() -> None:
    """Let :func:`adapt_threads` choose from now on, unless the user chose a number; for programs, not for libraries."""
    FOLLOWER.start()


def adapt_threads(*, short: bool) -> None:
    """Choose the number of threads for the work that follows; cheap enough to be called before every pass.

    Args:
        short: whether the work is a chain of short operations, as in decoding and training.
    """
    FOLLOWER.adapt(short=short)


def threads_of_others() -> float | None:
    """Threads of other programs that want a core now, on Linux; None elsewhere.

    Threads of this process sleep by the time of the look, but for the one that looks.
    """
    try:
        return running_threads() - 1
    except (OSError, ValueError, IndexError):
        return None


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
