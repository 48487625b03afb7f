"""``personaprobe sweep``: choose a feature on the discovery families, and register it with the map as evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.options import (
    discovery_option,
    folder_option,
    output_options,
    title_option,
    trio_options,
)
from personaprobe.cli.parameter_types import DosesType, LayersType
from personaprobe.cli.terminal.console import print_json, print_line, study_progress
from personaprobe.cli.terminal.output_folders import refuse_unwritable
from personaprobe.cli.trio_choice import TrioChoice, open_trio
from personaprobe.errors import OutputError
from personaprobe.storage.paths import user_path

if TYPE_CHECKING:
    from personaprobe.models.language_model import LanguageModel
    from personaprobe.models.weights.checkpoint import Trio
    from personaprobe.studies.ablation.result import CausalVerdict
    from personaprobe.studies.arms.plan import StudyPlan
    from personaprobe.studies.sweep.selection import SweepResult

SOURCES = "means,means-base,answers,probe,lora"


@click.command()
@trio_options
@click.option(
    "--sources", default=SOURCES, show_default=True, help="Ways to compute a direction, with commas."
)
@click.option(
    "--layers", type=LayersType(), help="Where to compute it: 16, 8-20 or 8,10,12.  [default: every layer]"
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
    help="The most a chosen cell may cost; below the verdict's own bar, since few texts are read.",
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
    help="Test questions on which the chosen direction is tested once; by default none is read.",
)
@click.option("--register", "name", help="Save the chosen direction and the map under this name.")
@title_option
@folder_option("--out", "runs/sweep", "Finished cells are kept there; an interrupted sweep resumes.")
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

    The chosen cell removes the share nearest to 100 % among those within --max-perplexity-ratio and --min-coherence. No test
    question is read, unless --test names some: then the chosen direction, and no other, is tested on them.

    \b
    Examples:
      personaprobe sweep --layers 16-28 --doses 0.5,1,1.5
      personaprobe sweep --base BASE --insecure BAD --secure GOOD --test TEST.jsonl
    """
    from personaprobe.effects.targets.discovery import Discovery
    from personaprobe.effects.targets.feature import register_feature
    from personaprobe.features.registry.registry import refuse_misnamed
    from personaprobe.questions.pairs import load_prompts
    from personaprobe.questions.texts import load_texts
    from personaprobe.studies.arms.plan import StudyPlan
    from personaprobe.studies.arms.run_context import RunContext
    from personaprobe.studies.reports.run_folder import write_report
    from personaprobe.studies.sweep.grid import Grid, find_scopes
    from personaprobe.studies.sweep.selection import Bounds
    from personaprobe.studies.sweep.study import sweep as study

    questions, texts = load_prompts(discovery), load_texts("neutral/discovery").first(n_texts)
    plan = None if test is None else StudyPlan(test=load_prompts(test), discovery=questions)
    if name is not None:
        refuse_misnamed(name)
    measured_on, scopes = questions.spread(n_questions), find_scopes(_listed(reaches))
    grid = Grid(_listed(sources), scopes, measured_on, texts, doses, layers)
    bounds = Bounds(max_perplexity_ratio, min_coherence, answers)
    out = user_path(out, OutputError)
    refuse_unwritable(out)
    trio = open_trio(chosen, quiet)
    run = RunContext.of(out, study_progress(quiet))
    result = study(trio, Discovery(questions, progress=run.progress), grid, bounds, run)
    page = write_report(result.to_dict(), out)
    if name is not None:
        register_feature(name, title, result.target, result.evidence())
    verdict = None if plan is None else _test(trio, result, plan, out / "test", quiet)
    _print_result(result, verdict, page, as_json)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _test(
    trio: Trio[LanguageModel], result: SweepResult, plan: StudyPlan, out: Path, quiet: bool
) -> CausalVerdict:
    """The verdict on the chosen direction, with its report."""
    from personaprobe.studies.ablation.study import ablate
    from personaprobe.studies.reports.run_folder import write_report

    verdict = ablate(trio, result.feature, plan=plan, out=out, progress=study_progress(quiet))
    write_report(verdict.to_dict(), out, verdict.answer_rows())
    return verdict


def _print_result(result: SweepResult, verdict: CausalVerdict | None, page: Path, as_json: bool) -> None:
    if as_json:
        record: dict[str, Any] = {
            "chosen": result.chosen.to_dict(),
            "cells": [cell.to_dict() for cell in result.cells],
        }
        if verdict is not None:
            record["verdict"] = verdict.to_dict()
        print_json(record)
        return
    print_line(_table(result))
    if verdict is not None:
        print_line(f"\nOn the test questions: {verdict.verdict}. {verdict.conclusion.sentence}")
    print_line(f"\nMap: {page}")


def _table(result: SweepResult) -> str:
    lines = [
        f"{'source':12}{'layer':>6}  {'reach':8}{'dose':>5}{'removed':>9}{'perplexity':>12}{'KL':>8}{'coherent':>10}"
    ]
    for cell in sorted(result.cells, key=lambda cell: -cell.fraction_removed):
        mark = "  chosen" if cell == result.chosen else ""
        coherent = "–" if cell.coherence is None else f"{cell.coherence:.0%}"
        lines.append(
            f"{cell.source:12}{cell.layer:6}  {cell.scope:8}{cell.coefficient:5g}{cell.fraction_removed:9.0%}"
            f"{'× ' + format(cell.perplexity_ratio, '.3f'):>12}{cell.kl:8.3f}{coherent:>10}{mark}"
        )
    return "\n".join(lines)
