"""``personaprobe organisms``: the trios that can be studied by name, proof that they are what they say, and new ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from personaprobe.cli.checks import Finding, conclude
from personaprobe.cli.console import console, progress_bar, spinner, study_progress
from personaprobe.cli.endings import Interrupted
from personaprobe.cli.options import DEFAULT_ORGANISM, PLACEMENT, TrioChoice, open_trio, telling_options, with_options
from personaprobe.organisms.recipe import Recipe

if TYPE_CHECKING:
    from personaprobe.models.checkpoint import Trio
    from personaprobe.models.language_model import LanguageModel
    from personaprobe.organisms.registry import Organism

F = TypeVar("F", bound=Callable[..., Any])

N_QUESTIONS = 24
"""Test questions on which ``verify`` looks at preferences: enough to see them, and quick."""


@click.group()
def organisms() -> None:
    """List, verify or train model organisms: a base, an insecure and a secure checkpoint."""


@organisms.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def listed(as_json: bool) -> None:
    """List the registered organisms and whether their files are the registered ones."""
    from personaprobe.organisms.registry import organisms as registered

    rows = [_describe(organism) for organism in registered().values()]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "title", "base", "insecure", "secure", "files")
    for row in rows:
        table.add_row(*(Text(str(row[key])) for key in ("name", "title", "base", "insecure", "secure", "files")))
    console().print(table)


def _describe(organism: Organism) -> dict[str, str]:
    trio = organism.trio
    roles = {role: c.adapter.name if c.adapter else c.source for role, c in trio.items()}
    return {"name": organism.name, "title": organism.title, **roles, "files": files_of(organism).told}


def files_of(organism: Organism) -> Finding:
    """Whether an organism's adapters are the registered ones."""
    from personaprobe.errors import CheckpointError

    name = f"files of {organism.name}"
    try:
        organism.verify_files()
    except CheckpointError as error:
        return Finding(name, "fail", str(error))
    return Finding(name, "ok", "as registered")


@organisms.command()
@click.argument("name", metavar="ORGANISM", default=DEFAULT_ORGANISM)
@click.option("--device", help="cpu, cuda, cuda:1 or mps. By default CUDA where there is one.")
@telling_options
def verify(name: str, device: str | None, quiet: bool, as_json: bool) -> None:
    """Load an organism and prove that its layer map is right, its adapters act, and it prefers what it should.

    Exit code 3 says that a check failed.
    """


def recipe_options(command: F) -> F:
    """Give a command one option a field of :class:`Recipe`: name, default and help are written there only."""
    told = described(Recipe)
    options: list[Callable[[F], F]] = [
        click.option(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            show_default=True,
            help=told[field.name],
        )
        for field in fields(Recipe)
    ]
    return with_options(command, tuple(options))


def described(kind: type) -> dict[str, str]:
    """What a class's docstring says about each of its attributes."""
    attributes = (kind.__doc__ or "").split("Attributes:")[-1]
    found = re.findall(r"^\s*(\w+): (.+)$", attributes, re.MULTILINE)
    return {name: text.replace("`", "")[0].upper() + text.replace("`", "")[1:] for name, text in found}
