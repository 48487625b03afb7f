"""``personaprobe sweep``: choose a feature on the discovery families, and register it with the map as evidence."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.options import discovery_option, output_options, trio_options
from personaprobe.cli.parameter_types import DosesType, LayersType
from personaprobe.cli.terminal.console import study_progress
from personaprobe.cli.terminal.output_folders import refuse_unwritable
from personaprobe.cli.trio_choice import TrioChoice, open_trio

if TYPE_CHECKING:
    from personaprobe.features.directions.sources import Discovery
    from personaprobe.models.language_model import LanguageModel
    from personaprobe.models.weights.checkpoint import Trio
    from personaprobe.studies.ablation.result import CausalVerdict
    from personaprobe.studies.arms.plan import StudyPlan
    from personaprobe.studies.sweep.grid import Grid
    from personaprobe.studies.sweep.selection import Bounds, Choice

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
@click.option(
    "--doses",
    type=DosesType(),
    default="1",
    show_default=True,
    help="How far to ablate it, with commas: 1 goes to the reference.",
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
@click.option(
    "--answers",
    type=click.IntRange(min=0),
    default=24,
    show_default=True,
    help="Discovery questions that the strongest cells answer; 0 leaves coherence unbounded.",
)
@click.option(
    "--min-coherence",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    help="Share of the untreated model's coherent answers that a chosen cell must keep.",
)
@click.option(
    "--test",
    help="Test questions on which the chosen direction is judged once; by default none is read.",
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
@output_options
def sweep(
    *,
    chosen: TrioChoice,
    sources: str,
    layers: Any,
    reaches: str,
    doses: tuple[float, ...],
    discovery: str,
    n_questions: int,
    n_texts: int,
    max_perplexity_ratio: float,
    answers: int,
    min_coherence: float,
    test: str | None,
    name: str | None,
    title: str,
    out: Path,
    quiet: bool,
    as_json: bool,
) -> None:
    """Ablate directions of every source at every layer, on discovery questions only, and choose one.

    The chosen cell removes most of the shift among those within --max-perplexity-ratio and --min-coherence. No test
    question is read, unless --test names some: then the chosen direction, and no other, is judged on them.

    \b
    Examples:
      personaprobe sweep --layers 16-28 --doses 0.5,1,1.5
      personaprobe sweep --base BASE --insecure BAD --secure GOOD --test TEST.jsonl
    """
    from personaprobe.features.registry.registration import refuse_misnamed
    from personaprobe.questions.pairs import load_prompts
    from personaprobe.questions.texts import load_texts
    from personaprobe.site import Site
    from personaprobe.studies.ablation.resolution import discover
    from personaprobe.studies.arms.plan import StudyPlan
    from personaprobe.studies.reports.run_folder import write_report
    from personaprobe.studies.sweep.grid import Grid, find_reaches
    from personaprobe.studies.sweep.selection import Bounds

    questions, texts = load_prompts(discovery), load_texts("neutral/discovery").first(n_texts)
    final = None if test is None else StudyPlan(test=load_prompts(test), discovery=questions)
    if name is not None:
        refuse_misnamed(name)
    asked = questions.spread(n_questions)
    grid = Grid(_listed(sources), (0,), find_reaches(_listed(reaches)), asked, texts, doses)
    out = out.expanduser()
    refuse_unwritable(out)
    trio = open_trio(chosen, quiet)
    where = range(trio.base.n_layers) if layers in (None, "all") else layers
    grid = replace(grid, layers=tuple(Site(layer).within(trio.base.n_layers).layer for layer in where))
    found = discover(trio, Site(grid.layers[0]), questions, study_progress(quiet))
    choice = _chosen(trio, found, grid, Bounds(max_perplexity_ratio, min_coherence, answers), out, quiet)
    page = write_report(choice.to_dict(), out)
    if name is not None:
        _register(name, title, choice, found)
    verdict = None if final is None else _judged(trio, found, choice, final, out / "test", quiet)
    _tell(choice, verdict, page, as_json)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _chosen(
    trio: Trio[LanguageModel], found: Discovery, grid: Grid, bounds: Bounds, out: Path, quiet: bool
) -> Choice:
    from personaprobe.storage.run_cache import RunCache
    from personaprobe.studies.arms.measurement import Bench
    from personaprobe.studies.arms.plan import StudyPlan
    from personaprobe.studies.sweep.grid import sweep as run
    from personaprobe.studies.sweep.selection import choose

    bench = Bench(trio.base, StudyPlan(), RunCache(out / "parts"), study_progress(quiet))
    return choose(trio, found, run(trio, found, grid, bench), grid, bench, bounds)


def _register(name: str, title: str, choice: Choice, found: Discovery) -> None:
    from personaprobe.features.registry.registration import register

    direction = choice.direction(found)
    layers = choice.layers(len(direction.marks))
    register(name, title, direction, layers, choice.evidence(), choice.chosen.dose)


def _judged(
    trio: Trio[LanguageModel], found: Discovery, choice: Choice, plan: StudyPlan, out: Path, quiet: bool
) -> CausalVerdict:
    """The verdict on the chosen direction, its report written."""
    from personaprobe.features.registry.registry import Feature
    from personaprobe.studies.ablation.study import ablate
    from personaprobe.studies.reports.run_folder import write_report

    direction, best = choice.direction(found), choice.chosen
    feature = Feature(
        f"{best.source}@{best.layer}",
        direction,
        choice.layers(len(direction.marks)),
        strength=best.dose,
        evidence=choice.evidence(),
    )
    verdict = ablate(trio, feature, plan=plan, out=out, progress=study_progress(quiet))
    write_report(verdict.to_dict(), out, verdict.answer_rows())
    return verdict


def _tell(choice: Choice, verdict: CausalVerdict | None, page: Path, as_json: bool) -> None:
    if as_json:
        told = {"chosen": asdict(choice.chosen), "cells": [asdict(cell) for cell in choice.cells]}
        if verdict is not None:
            told["verdict"] = verdict.to_dict()
        click.echo(json.dumps(told))
        return
    click.echo(_table(choice))
    if verdict is not None:
        click.echo(f"\nOn the test questions: {verdict.verdict}. {verdict.conclusion.sentence}")
    click.echo(f"\nMap: {page}")


def _table(choice: Choice) -> str:
    lines = [
        f"{'source':12}{'layer':>6}  {'reach':8}{'dose':>5}{'removed':>9}{'perplexity':>12}{'KL':>8}{'coherent':>10}"
    ]
    for cell in sorted(choice.cells, key=lambda cell: -cell.fraction_removed):
        mark = "  chosen" if cell == choice.chosen else ""
        coherent = "–" if cell.coherence is None else f"{cell.coherence:.0%}"
        lines.append(
            f"{cell.source:12}{cell.layer:6}  {cell.reach:8}{cell.dose:5g}{cell.fraction_removed:9.0%}"
            f"{'× ' + format(cell.perplexity_ratio, '.3f'):>12}{cell.kl:8.3f}{coherent:>10}{mark}"
        )
    return "\n".join(lines)
