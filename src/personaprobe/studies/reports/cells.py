"""Tables of text, and intervals as their cells: the same for a page, a terminal and the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TextTable:
    """A table of text.

    Attributes:
        title: above it.
        head: names of the columns; the first column names the rows.
        rows: cells by row.
        note: under the title of a page; empty for none.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    @property
    def markdown(self) -> str:
        """As a table of Markdown under its title."""
        lines = [self.head, ("---",) * len(self.head), *self.rows]
        return "\n".join((f"**{self.title}**", "", *(f"| {' | '.join(line)} |" for line in lines)))


def interval_text(interval: Mapping[str, Any] | None) -> str:
    """An interval in nats per token."""
    if interval is None or interval["value"] is None:
        return "–"
    return f"{interval['value']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def percent_text(interval: Mapping[str, Any] | None) -> str:
    """A share of a shift with its interval, in percent."""
    if interval is None or interval["value"] is None:
        return "–"
    value, low, high = (100 * interval[key] for key in ("value", "low", "high"))
    return f"{value:.0f} % ({low:.0f} to {high:.0f})"
