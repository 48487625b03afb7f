"""Things that were tried, as a table and as an exit code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

import click

from personaprobe.cli.terminal.console import console, plain
from personaprobe.cli.terminal.exit_codes import CHECK_FAILED

State: TypeAlias = Literal["ok", "warn", "fail"]
_STYLES: dict[State, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: its name.
        state: ``warn`` is something to know, ``fail`` something to mend.
        told: what was seen, and what to do about it.
    """

    what: str
    state: State
    told: str


def conclude(title: str, findings: Sequence[Finding], as_json: bool) -> None:
    """Print the findings and end with exit code 3 where one of them failed."""
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False))
    else:
        _show(title, findings)
    if any(finding.state == "fail" for finding in findings):
        click.get_current_context().exit(CHECK_FAILED)


def _show(title: str, findings: Sequence[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for column in ("", "", ""):
        table.add_column(column)
    table.show_header = False
    for finding in findings:
        state = Text(finding.state, style=_STYLES[finding.state])
        table.add_row(finding.what, state, Text(plain(finding.told)))
    console().print(table)
