"""Output of the command line: results on stdout, progress on stderr.

All verbs print through this module. Text of a model or of a file could otherwise send commands to the terminal, or be read
as markup: here its control characters are spelled out, and markup is never read.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from personaprobe.compute.hardware import return_freed_memory
from personaprobe.errors import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    from personaprobe.progress import Advance, Progress
    from personaprobe.studies.reports.cells import TextTable

BAR_DELAY = 1.0
"""Seconds before a progress bar appears: short work needs none."""

SPEED_WINDOW = 60.0
"""Seconds of work from which the time left is estimated."""

LINE_INTERVAL = 10.0
"""Seconds between lines of progress if stderr is not a terminal."""

PIPED_WIDTH = 110
"""Width of tables if stdout is not a terminal."""


def console(*, stderr: bool = False) -> Console:
    """The console for tables and text, on stdout or stderr; strings in them are shown as they are, never as markup."""
    from rich.console import Console

    class PlainTextConsole(Console):
        def render_str(self, text: str, **style: Any) -> Text:
            return super().render_str(visible(text), **style)

    width = None if stderr or sys.stdout.isatty() else PIPED_WIDTH
    return PlainTextConsole(width=width, stderr=stderr, highlight=False, markup=False, emoji=False)


def styled(text: str, style: str = "") -> Text:
    """Text in a style, such as ``bold red``; rich's own class would pass control characters on."""
    from rich.text import Text

    return Text(visible(text), style=style)


def print_line(text: object = "", *, err: bool = False, end: bool = True) -> None:
    """Print text on stdout, or on stderr.

    Args:
        text: may have several lines.
        err: print on stderr.
        end: whether the line ends after the text.
    """
    click.echo(visible(str(text)), err=err, nl=end)


def print_table(table: TextTable) -> None:
    """Print a table of text under its title."""
    from rich.table import Table

    shown = Table(*table.head, title=styled(table.title), title_justify="left")
    for row in table.rows:
        shown.add_row(*map(styled, row))
    console().print(shown)


def print_json(data: Any, indent: int | None = None) -> None:
    """Print plain data as JSON; what was not measured (NaN) is null."""
    from personaprobe.storage.plain_json import to_plain_json

    text = json.dumps(to_plain_json(data), indent=indent, ensure_ascii=False, allow_nan=False)
    click.echo(re.sub(r"[^\n -~]", lambda match: _escaped(match[0]), text))


def _escaped(character: str) -> str:
    """A character inside JSON text: as an escape of JSON where it would not be visible."""
    return character if visible(character) == character else json.dumps(character)[1:-1]


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
    """The progress of a study on the command line; memory that a part of it has freed is returned at its end."""

    @contextmanager
    def progress(description: str, total: int, unit: str, /) -> Iterator[Advance]:
        try:
            with progress_bar(description, total, unit, quiet) as advance:
                yield advance
        finally:
            return_freed_memory()

    return progress


@contextmanager
def spinner(description: str, quiet: bool = False) -> Iterator[None]:
    """Show a description while work without measurable progress runs, after one second."""
    if quiet:
        yield
        return
    if not sys.stderr.isatty():
        with _call_later(BAR_DELAY, lambda: print_line(f"{description} …", err=True)):
            yield
        return
    from rich.status import Status

    status = Status(styled(description), console=console(stderr=True))
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
    from rich.progress import BarColumn, Progress, TimeRemainingColumn

    columns: list[ProgressColumn] = [
        _text_column(lambda task: f"{task.description:<22}"),
        BarColumn(bar_width=28),
        _text_column(partial(_count_text, unit=unit)),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    ]
    bar = Progress(*columns, console=console(stderr=True), redirect_stdout=False)
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

    class CountColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return styled(text_of(task))

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
            print_line(f"{self.description}: {self._state()}", err=True)

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


def format_bytes(n_bytes: float) -> str:
    """Format a number of bytes in decimal units.

    Examples:
        >>> format_bytes(269_000_000)
        '269 MB'
    """
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"


def format_duration(seconds: float) -> str:
    """A duration in minutes and seconds.

    Examples:
        >>> format_duration(71.6)
        '1 min 12 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
