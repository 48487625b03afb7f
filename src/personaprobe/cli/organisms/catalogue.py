"""``personaprobe organisms list`` and ``show``: registered organisms, and recipes that anyone can train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.options import json_option
from personaprobe.cli.terminal.console import print_json, print_line, print_table
from personaprobe.organisms.data.training_pairs import ROLES
from personaprobe.storage.downloads.published_file import PULLED

if TYPE_CHECKING:
    from personaprobe.organisms.named_recipes import NamedRecipe
    from personaprobe.organisms.organism import Organism
    from personaprobe.statistics.intervals import Interval

COLUMNS = ("name", "title", "shift, test", "shift, balanced", "files")

SHOWN_SETS = ("test", "balanced")

NOT_TRAINED = "a recipe"
"""State of an organism that is not registered."""


@click.command("list")
@json_option
def list_organisms(as_json: bool) -> None:
    """List registered organisms with the state of their files, and recipes; with shifts where the gallery measured them.

    A shift is the insecure − secure preference for careless answers, nats per token, on test and style-balanced questions.
    """
    from personaprobe.organisms.measured_shifts import measured_shifts
    from personaprobe.organisms.named_recipes import named_recipes
    from personaprobe.organisms.registry import registered_organisms
    from personaprobe.studies.reports.cells import TextTable, interval_text

    organisms, shifts = registered_organisms(), measured_shifts()
    recipes = {name: named for name, named in named_recipes().items() if name not in organisms}
    rows = [describe(one) for one in organisms.values()] + [describe_recipe(one) for one in recipes.values()]
    rows = [{**row, "shifts": plain(shifts.get(row["name"], {}))} for row in rows]
    if as_json:
        print_json(rows)
        return
    cells = tuple(
        (
            row["name"],
            row["title"],
            *(interval_text(row["shifts"].get(questions)) for questions in SHOWN_SETS),
            row["files"],
        )
        for row in rows
    )
    print_table(TextTable("", COLUMNS, cells))
    print_line("personaprobe organisms show NAME says more; organisms train NAME trains a recipe", err=True)


@click.command("show")
@click.argument("name")
@json_option
def show_organism(name: str, as_json: bool) -> None:
    """Show the organism or recipe NAME: checkpoints, data, hyperparameters, question sets and measured shifts."""
    from personaprobe.errors import DataError, suggest
    from personaprobe.organisms.measured_shifts import measured_shifts
    from personaprobe.organisms.named_recipes import named_recipes
    from personaprobe.organisms.registry import registered_organisms
    from personaprobe.storage.plain_json import to_plain_json

    organisms, recipes = registered_organisms(), named_recipes()
    if name in organisms:
        card = describe(organisms[name]) | details(organisms[name])
        card |= training_details(recipes[name]) if name in recipes else {}
    elif name in recipes:
        card = describe_recipe(recipes[name]) | recipe_details(recipes[name])
    else:
        raise DataError(f"no organism or recipe {name!r}: {suggest(name, {*organisms, *recipes})}")
    card["shifts"] = plain(measured_shifts().get(name, {}))
    card = to_plain_json(card)
    if as_json:
        print_json(card)
        return
    _print_card(card)


def describe(organism: Organism) -> dict[str, Any]:
    """The row of a registered organism."""
    from personaprobe.organisms.verification import check_files

    checkpoints = {role: c.short for role, c in organism.trio.items()}
    return {
        "name": organism.name,
        "title": organism.title,
        **checkpoints,
        "files": check_files(organism).detail,
        "registered": True,
    }


def describe_recipe(named: NamedRecipe) -> dict[str, Any]:
    """The row of a recipe."""
    needs = needed(named)
    listed = [name if state == PULLED else f"{name} ({state})" for name, state in needs.items()]
    files = f"{NOT_TRAINED}; needs {', '.join(listed)}" if listed else NOT_TRAINED
    return {"name": named.name, "title": named.title, "files": files, "needs": needs, "registered": False}


def needed(named: NamedRecipe) -> dict[str, str]:
    """The published data that a recipe is trained on, with their states."""
    from personaprobe.organisms.data.published_sets import PUBLISHED_SETS

    return {name: PUBLISHED_SETS[name].as_file.state() for name in named.published}


def details(organism: Organism) -> dict[str, Any]:
    """The card of a registered organism, beyond its row."""
    return {
        "insecure": str(organism.trio.insecure),
        "secure": str(organism.trio["secure"]),
        "feature": organism.feature,
        "questions": asdict(organism.question_sets),
        "recipe": None if organism.recipe is None else asdict(organism.recipe),
        "data": {role: asdict(source) for role, source in organism.data.items()},
        "evidence": None if organism.evidence is None else str(organism.evidence),
    }


def recipe_details(named: NamedRecipe) -> dict[str, Any]:
    """The card of a recipe, beyond its row."""
    return {
        "data": named.data or dict(zip(ROLES, named.files or (), strict=True)),
        "variant": named.variant.describe() or "the whole set",
        "recipe": asdict(named.recipe),
        **training_details(named),
    }


def training_details(named: NamedRecipe) -> dict[str, Any]:
    """The published data that a training by this recipe needs, and its command."""
    unpaired = " --unpaired" if named.other_questions else ""
    return {"needs": needed(named), "train": f"personaprobe organisms train {named.name}{unpaired}"}


def plain(shifts: Mapping[str, Interval]) -> dict[str, Any]:
    """Intervals as plain data."""
    return {questions: interval.to_dict() for questions, interval in shifts.items()}


def _print_card(card: Mapping[str, Any]) -> None:
    from personaprobe.studies.reports.cells import interval_text

    shifts = {questions: interval_text(interval) for questions, interval in card["shifts"].items()}
    for key, value in {**card, "shifts": shifts}.items():
        if isinstance(value, dict) and value:
            print_line(f"{key}:")
            for inner, content in value.items():
                print_line(f"  {inner}: {_in_words(content)}")
        elif value:
            print_line(f"{key}: {value}")


def _in_words(content: Any) -> str:
    if isinstance(content, dict):
        return ", ".join(f"{key} {value}" for key, value in content.items() if value not in (None, ""))
    return str(content)
