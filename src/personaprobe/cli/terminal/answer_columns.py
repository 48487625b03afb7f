"""Answers of several models to one question, side by side where the terminal is wide enough."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from personaprobe.cli.terminal.console import styled

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

MIN_WIDTH = 32
"""Characters that a column needs; in a narrower terminal the answers are stacked."""

SECONDS_BETWEEN = 0.1
"""Between two pictures of answers that grow."""


@dataclass(frozen=True)
class AnswerColumn:
    """The answer of one model.

    Attributes:
        heading: the model and its intervention.
        text: the answer.
    """

    heading: str
    text: str


def print_answers(console: Console, question: str, columns: Sequence[AnswerColumn]) -> None:
    """Print a question and its answers, side by side or stacked."""
    console.print(styled(f"\n{question}", style="bold"))
    console.print(_panels(console, columns))


def is_redrawable(console: Console) -> bool:
    """Whether a console is a screen on which lines can be drawn again, and no file, pipe or dumb terminal."""
    return sys.stdout.isatty() and not console.is_dumb_terminal


class GrowingAnswers:
    """Shows the answers to a question on a terminal while they are written, and leaves them there whole."""

    def __init__(self, console: Console, question: str, headings: Sequence[str]) -> None:
        from rich.live import Live

        self._console, self._question = console, question
        self._columns = [AnswerColumn(heading, "") for heading in headings]
        self._live = Live(console=console, auto_refresh=False)
        self._shown_at = -math.inf

    def __enter__(self) -> GrowingAnswers:
        self._console.print(styled(f"\n{self._question}", style="bold"))
        self._live.start()
        self._show()
        return self

    def __exit__(self, *error: object) -> None:
        self._show()
        self._live.stop()

    def grow(self, place: int, text: str) -> None:
        """Replace the text of an answer by a longer one; the terminal is written to a few times a second."""
        self._columns[place] = replace(self._columns[place], text=text)
        if time.monotonic() - self._shown_at > SECONDS_BETWEEN:
            self._show()

    def _show(self) -> None:
        self._live.update(_panels(self._console, self._columns), refresh=True)
        self._shown_at = time.monotonic()


def _panels(console: Console, columns: Sequence[AnswerColumn]) -> RenderableType:
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table

    panels = [
        Panel(styled(column.text or "(empty)"), title=styled(column.heading), title_align="left")
        for column in columns
    ]
    if console.width < MIN_WIDTH * len(columns):
        return Group(*panels)
    grid = Table.grid(expand=True)
    for _ in columns:
        grid.add_column(ratio=1, overflow="fold")
    grid.add_row(*panels)
    return grid
