"""``personaprobe organisms``: the registered trios, their verification, and new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from personaprobe.cli.options import json_option
from personaprobe.cli.organisms.compare import compare
from personaprobe.cli.organisms.gallery import gallery
from personaprobe.cli.organisms.mixtures import mixtures
from personaprobe.cli.organisms.register import register, remove
from personaprobe.cli.organisms.train import train
from personaprobe.cli.organisms.verify import verify
from personaprobe.cli.organisms.watch import watch
from personaprobe.cli.terminal.console import console, print_json, styled

if TYPE_CHECKING:
    from personaprobe.organisms.organism import Organism

COLUMNS = ("name", "title", "base", "insecure", "secure", "files")


@click.group()
def organisms() -> None:
    """List, verify, train, watch, register or compare model organisms: a base, an insecure and a secure checkpoint."""


for _command in (verify, train, watch, mixtures, gallery, register, remove, compare):
    organisms.add_command(_command)


@organisms.command("list")
@json_option
def list_organisms(as_json: bool) -> None:
    """List the registered organisms and whether their files are the registered ones."""
    from personaprobe.organisms.registry import registered_organisms

    rows = [_describe(organism) for organism in registered_organisms().values()]
    if as_json:
        print_json(rows)
        return
    from rich.table import Table

    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*(styled(str(row[column])) for column in COLUMNS))
    console().print(table)


def _describe(organism: Organism) -> dict[str, str]:
    from personaprobe.organisms.verification import check_files

    checkpoints = {role: c.adapter.name if c.adapter else c.source for role, c in organism.trio.items()}
    return {
        "name": organism.name,
        "title": organism.title,
        **checkpoints,
        "files": check_files(organism).detail,
    }
