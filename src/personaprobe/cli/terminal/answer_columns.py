"""Answers of several models to one question, side by side where the terminal is wide enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from personaprobe.cli.terminal.console import styled

if TYPE_CHECKING:
    from rich.console import Console

MIN_WIDTH = 32
"""Characters that a column needs; in a narrower terminal the answers are stacked."""


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
    from rich.panel import Panel
    from rich.table import Table

    console.print(styled(f"\n{question}", style="bold"))
    panels = [
        Panel(styled(column.text or "(empty)"), title=styled(column.heading), title_align="left")
        for column in columns
    ]
    if console.width < MIN_WIDTH * len(columns):
        console.print(*panels, sep="\n")
        return
    grid = Table.grid(expand=True)
    for _ in columns:
        grid.add_column(ratio=1, overflow="fold")
    grid.add_row(*panels)
    console.print(grid)
