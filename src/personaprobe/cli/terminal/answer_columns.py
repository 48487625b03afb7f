"""Answers of several models to one question, next to each other where the terminal is wide enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from personaprobe.cli.terminal.console import plain

if TYPE_CHECKING:
    from rich.console import Console

NARROWEST = 32
"""Columns an answer needs; where there are fewer, answers are stacked."""


@dataclass(frozen=True)
class Answer:
    """What one model said.

    Attributes:
        by: the model and what was done to it.
        text: the answer.
    """

    by: str
    text: str


def show_answers(console: Console, question: str, answers: Sequence[Answer]) -> None:
    """Print a question and its answers, side by side or stacked."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    console.print(Text(f"\n{plain(question)}", style="bold"))
    panels = [Panel(Text(plain(a.text) or "(empty)"), title=Text(a.by), title_align="left") for a in answers]
    if console.width < NARROWEST * len(answers):
        console.print(*panels, sep="\n")
        return
    grid = Table.grid(expand=True)
    for _ in answers:
        grid.add_column(ratio=1, overflow="fold")
    grid.add_row(*panels)
    console.print(grid)
