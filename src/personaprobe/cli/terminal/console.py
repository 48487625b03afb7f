"""What users see: results on stdout, and on stderr how long it will take."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn, Task

    from personaprobe.progress import Progress

PATIENCE = 1.0
"""Seconds of silence before a bar is drawn: short work needs none."""

LINE_EVERY = 10.0
"""Seconds between lines where stderr is a file and not a terminal."""

PIPED_WIDTH = 110
"""Columns of a table that nobody watches."""


def console() -> Console:
    """Where results go."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)


def plain(text: str) -> str:
    """Text of a model or a file without the control characters that would speak to the terminal."""
    return "".join(c for c in text if c == "\n" or c.isprintable())


@contextmanager
def progress_bar(
    description: str, total: int, unit: str, quiet: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show how far work has come, how fast it goes and how long it will take; hands out what advances it.

    A terminal gets a bar once the work has lasted a second; a file gets a line every ten seconds at most.

    Args:
        description: of the work, a word or two.
        total: how many units there are; 0 where nobody knows.
        unit: in the plural.
        quiet: show nothing.
    """
    if quiet:
        yield lambda _: None
        return
    shown = _drawn if sys.stderr.isatty() else _written
    with shown(description, total, unit) as advance:
        yield advance


def study_progress(quiet: bool) -> Progress:
    """How a study shows its work on the command line."""
    return partial(progress_bar, quiet=quiet)


@contextmanager
def spinner(description: str, quiet: bool = False) -> Iterator[None]:
    """Show that something without measurable progress is under way, once it has lasted a second."""
    if quiet:
        yield
        return
    if not sys.stderr.isatty():
        with _after(PATIENCE, lambda: click.echo(f"{description} …", err=True)):
            yield
        return
    from rich.console import Console
    from rich.status import Status

    status = Status(description, console=Console(stderr=True))
    try:
        with _after(PATIENCE, status.start):
            yield
    finally:
        status.stop()


@contextmanager
def _after(seconds: float, act: Callable[[], object]) -> Iterator[None]:
    """Act from the side if the block still runs after some seconds; never after it has ended."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


@contextmanager
def _drawn(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns: list[ProgressColumn] = [
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=28),
        _text_column(partial(_count, unit=unit)),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    ]
    bar = Progress(*columns, console=Console(stderr=True), redirect_stdout=False)
    task = bar.add_task(description, total=total or None)
    try:
        with _after(PATIENCE, bar.start):
            yield lambda n: bar.advance(task, n)
        done = bar.tasks[0].completed
        # what an interrupted run had finished is not counted again, and yet the work is complete
        bar.update(task, total=total or done, completed=total or done)
    finally:
        bar.stop()


def _text_column(told: Callable[[Task], str]) -> ProgressColumn:
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Told(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(told(task))

    return Told()


def _count(task: Task, unit: str) -> str:
    return _told(task.completed, task.total or 0, unit, task.finished_speed or task.speed)


def _told(done: float, total: float, unit: str, speed: float | None) -> str:
    """For example ``120/960 questions, 8.1/s``."""
    of = f"/{total:,.0f}" if total else ""
    rate = f", {speed:,.0f}/s" if speed and speed >= 20 else f", {speed:.1f}/s" if speed else ""
    return f"{done:,.0f}{of} {unit}{rate}"


@dataclass
class _Lines:
    """Progress for a log file."""

    description: str
    total: int
    unit: str
    done: int = 0
    started: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)

    def advance(self, n: int) -> None:
        """Count, and say so if nothing was said for a while."""
        self.done += n
        now = time.monotonic()
        if now - self.last >= LINE_EVERY:
            self.last = now
            click.echo(f"{self.description}: {self._state(now - self.started)}", err=True)

    def _state(self, seconds: float) -> str:
        speed = self.done / seconds
        left = f", {clock((self.total - self.done) / speed)} left" if self.total > self.done > 0 else ""
        return _told(self.done, self.total, self.unit, speed) + left


@contextmanager
def _written(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    yield _Lines(description, total, unit).advance


def clock(seconds: float) -> str:
    """A duration for people.

    Examples:
        >>> clock(71.6)
        '1 min 12 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
