"""Results of checks, as a table and as an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import click

from personaprobe.cli.terminal.console import console, print_json, styled
from personaprobe.cli.terminal.exit_codes import CHECK_FAILED

State: TypeAlias = Literal["ok", "warn", "fail"]
_STYLES: dict[State, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        subject: name of the check.
        state: ``warn`` is worth knowing, ``fail`` has to be mended.
        detail: the result in words, with advice.
    """

    subject: str
    state: State
    detail: str

    def to_dict(self) -> dict[str, str]:
        """As plain data, as printed with ``--json``."""
        return {"what": self.subject, "state": self.state, "told": self.detail}


def print_findings(title: str, findings: Sequence[Finding], as_json: bool) -> None:
    """Print all findings, and exit with code 3 if one of them failed."""
    if as_json:
        print_json([finding.to_dict() for finding in findings])
    else:
        _print_table(title, findings)
    if any(finding.state == "fail" for finding in findings):
        click.get_current_context().exit(CHECK_FAILED)


def _print_table(title: str, findings: Sequence[Finding]) -> None:
    from rich.table import Table

    table = Table("", "", "", title=title, title_justify="left", show_header=False)
    for finding in findings:
        state = styled(finding.state, style=_STYLES[finding.state])
        table.add_row(finding.subject, state, styled(finding.detail))
    console().print(table)
