"""Output of the command line: results on stdout, progress on stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn, Task

    from personaprobe.progress import Advance, Progress

BAR_DELAY = 1.0
"""Seconds before a progress bar appears: short work needs none."""

SPEED_WINDOW = 60.0
"""Seconds of work from which the time left is estimated."""

LINE_INTERVAL = 10.0
"""Seconds between lines of progress if stderr is not a terminal."""

PIPED_WIDTH = 110
"""Width of tables if stdout is not a terminal."""


def console() -> Console:
    """The console for results, on stdout."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)


def printable(text: str) -> str:
    """Text without control characters: text of a model or a file could otherwise send commands to the terminal."""
    return "".join(c for c in text if c == "\n" or c.isprintable())


@contextmanager
def progress_bar(description: str, total: int, unit: str, quiet: bool = False) -> Iterator[Advance]:
    """Show the progress, the speed and the remaining time of some work; yields the function that advances it.

    A terminal shows a bar after one second; a file gets at most one line every ten seconds.

    Args:
        description: of the work, a word or two.
        total: number of units; 0 if it is not known.
        unit: name of the unit, in the plural.
        quiet: show nothing.
    """
    if quiet:
        yield lambda _: None
        return
    show = _bar if sys.stderr.isatty() else _log_lines
    with show(description, total, unit) as advance:
        yield advance


def study_progress(quiet: bool) -> Progress:
    """The progress of a study on the command line."""
    return partial(progress_bar, quiet=quiet)


@contextmanager
def spinner(description: str, quiet: bool = False) -> Iterator[None]:
    """Show a description while work without measurable progress runs, after one second."""
    if quiet:
        yield
        return
    if not sys.stderr.isatty():
        with _call_later(BAR_DELAY, lambda: click.echo(f"{description} …", err=True)):
            yield
        return
    from rich.console import Console
    from rich.status import Status

    status = Status(description, console=Console(stderr=True))
    try:
        with _call_later(BAR_DELAY, status.start):
            yield
    finally:
        status.stop()


@contextmanager
def _call_later(seconds: float, call: Callable[[], object]) -> Iterator[None]:
    """Call a function in another thread if the block still runs after some seconds; never after the block has ended."""
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


@contextmanager
def _bar(description: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns: list[ProgressColumn] = [
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=28),
        _text_column(partial(_count_text, unit=unit)),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    ]
    bar = Progress(*columns, console=Console(stderr=True), redirect_stdout=False)
    task = bar.add_task(description, total=total or None)
    try:
        with _call_later(BAR_DELAY, bar.start):
            yield lambda n: bar.advance(task, n)
        done = bar.tasks[0].completed
        # parts that an earlier, interrupted run had finished were not counted, and yet the work is complete
        bar.update(task, total=total or done, completed=total or done)
    finally:
        bar.stop()


def _text_column(text_of: Callable[[Task], str]) -> ProgressColumn:
    """A column of the progress bar that shows a text."""
    from rich.progress import ProgressColumn
    from rich.text import Text

    class CountColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(text_of(task))

    return CountColumn()


def _count_text(task: Task, unit: str) -> str:
    return _progress_text(task.completed, task.total or 0, unit, task.finished_speed or task.speed)


def _progress_text(done: float, total: float, unit: str, speed: float | None) -> str:
    """Units done and speed, such as ``120/960 questions, 8.1/s``."""
    of = f"/{total:,.0f}" if total else ""
    rate = f", {speed:,.0f}/s" if speed and speed >= 20 else f", {speed:.1f}/s" if speed else ""
    return f"{done:,.0f}{of} {unit}{rate}"


def _now() -> float:
    return time.monotonic()


@dataclass
class _LineProgress:
    """Progress as lines of a log file.

    Speed is that of the last minute, counted from the first finished unit on: before it, weights are packed and kernels
    compiled; and parts that an earlier run has finished are counted at once, which says nothing about the others.
    """

    description: str
    total: int
    unit: str
    done: int = 0
    last: float = field(default_factory=_now)
    counts: deque[tuple[float, int]] = field(default_factory=deque)

    def advance(self, n: int) -> None:
        """Count ``n`` units, and print a line if the last one is ten seconds old."""
        self.done += n
        now = _now()
        self.counts.append((now, self.done))
        while len(self.counts) > 2 and self.counts[1][0] < now - SPEED_WINDOW:
            self.counts.popleft()
        if now - self.last >= LINE_INTERVAL:
            self.last = now
            click.echo(f"{self.description}: {self._state()}", err=True)

    def _state(self) -> str:
        (before, done_then), (now, _) = self.counts[0], self.counts[-1]
        speed = (self.done - done_then) / (now - before) if now > before else None
        left = (
            f", {format_duration((self.total - self.done) / speed)} left"
            if speed and self.total > self.done
            else ""
        )
        return _progress_text(self.done, self.total, self.unit, speed) + left


@contextmanager
def _log_lines(description: str, total: int, unit: str) -> Iterator[Advance]:
    yield _LineProgress(description, total, unit).advance


def format_duration(seconds: float) -> str:
    """A duration in minutes and seconds.

    Examples:
        >>> format_duration(71.6)
        '1 min 12 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
