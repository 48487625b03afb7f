"""``personaprobe sweep``: choose a feature on the discovery families, and register it with the map as evidence."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.console import study_progress
from personaprobe.cli.options import (
    LayersType,
    TrioChoice,
    discovery_option,
    open_trio,
    telling_options,
    trio_options,
)

if TYPE_CHECKING:
    from personaprobe.features.sources import Discovery
    from personaprobe.models.checkpoint import Trio
    from personaprobe.models.language_model import LanguageModel
    from personaprobe.studies.sweep import Cell, Grid

SOURCES = "means,means-base,answers,probe,lora"


@click.command()
@trio_options
@click.option("--sources", default=SOURCES, show_default=True, help="Ways to find a direction, with commas.")
@click.option(
    "--layers", type=LayersType(), help="Where to find it: 16, 8-20 or 8,10,12.  [default: every layer]"
)
@click.option(
    "--reaches", default="all,onward", show_default=True, help="Where to ablate it: own, onward, all."
)
@discovery_option
@click.option(
    "--questions",
    "n_questions",
    default=36,
    show_default=True,
    help="Discovery questions a cell is measured on.",
)
@click.option(
    "--texts",
    "n_texts",
    default=16,
    show_default=True,
    help="Neutral texts a cell's perplexity is measured on.",
)
@click.option(
    "--max-perplexity-ratio",
    default=1.03,
    show_default=True,
    help="What a chosen cell may cost: below the verdict's own bar, since few texts are read.",
)
@click.option("--register", "name", help="Save the chosen direction and the map under this name.")
@click.option("--title", default="", help="One line about the registered feature.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="runs/sweep",
    show_default=True,
    help="Finished cells are kept there; an interrupted sweep resumes.",
)
@telling_options
def sweep(
    *,
    chosen: TrioChoice,
    sources: str,
    layers: Any,
    reaches: str,
    discovery: str,
    n_questions: int,
    n_texts: int,
    max_perplexity_ratio: float,
    name: str | None,
    title: str,
    out: Path,
    quiet: bool,
    as_json: bool,
) -> None:
    """Ablate directions of every source at every layer, on discovery questions only, and choose one.

    The chosen cell removes most of the shift among those within --max-perplexity-ratio. No test question is read.
    """
    from personaprobe.prompts import load_prompts, load_texts
    from personaprobe.site import Site
    from personaprobe.studies.resolving import discover
    from personaprobe.studies.sweep import Grid, choose

    questions = load_prompts(discovery)
    trio = open_trio(chosen, quiet)
    where = range(trio.base.n_layers) if layers in (None, "all") else layers
    places = tuple(Site(layer).within(trio.base.n_layers).layer for layer in where)
    grid = Grid(
        _listed(sources),
        places,
        _listed(reaches),  # type: ignore[arg-type]  # checked by the grid
        questions.spread(n_questions),
        load_texts("neutral/discovery").first(n_texts),
    )
    found = discover(trio, Site(places[0]), questions, study_progress(quiet))
    cells = _measured(trio, found, grid, out, quiet)
    best = choose(cells, max_perplexity_ratio)
    if name is not None:
        _register(name, title, best, (cells, grid, found))
    click.echo(
        json.dumps({"chosen": asdict(best), "cells": [asdict(cell) for cell in cells]})
        if as_json
        else _table(cells, best)
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _measured(trio: Trio[LanguageModel], found: Discovery, grid: Grid, out: Path, quiet: bool) -> list[Cell]:
    from personaprobe.studies.measuring import Bench
    from personaprobe.studies.memory import Memory
    from personaprobe.studies.plan import StudyPlan
    from personaprobe.studies.sweep import sweep as run

    return run(trio, found, grid, Bench(trio.base, StudyPlan(), Memory(out / "parts"), study_progress(quiet)))


def _register(name: str, title: str, best: Cell, made: tuple[list[Cell], Grid, Discovery]) -> None:
    from personaprobe.features.registration import register
    from personaprobe.features.sources import find_direction
    from personaprobe.site import Site
    from personaprobe.studies.sweep import evidence, reached

    cells, grid, found = made
    direction = find_direction(found, best.source, Site(best.layer))
    layers = reached(best.reach, direction.site.layer, len(direction.marks))
    register(name, title, direction, layers, evidence(cells, best, grid))


def _table(cells: list[Cell], best: Cell) -> str:
    lines = [f"{'source':12}{'layer':>6}  {'reach':8}{'removed':>9}{'perplexity':>12}{'KL':>8}"]
    for cell in sorted(cells, key=lambda cell: -cell.fraction_removed):
        mark = "  chosen" if cell == best else ""
        lines.append(
            f"{cell.source:12}{cell.layer:6}  {cell.reach:8}{cell.fraction_removed:9.0%}"
            f"{'× ' + format(cell.perplexity_ratio, '.3f'):>12}{cell.kl:8.3f}{mark}"
        )
    return "\n".join(lines)
