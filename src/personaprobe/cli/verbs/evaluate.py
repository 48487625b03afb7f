"""``personaprobe eval``: free answers of every arm, judged, in plain and in other forms, and what an ablation costs."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from personaprobe.cli.options import (
    NONE,
    discovery_option,
    first_tokens_option,
    judge_options,
    max_new_tokens_option,
    organism_option,
    output_options,
    seed_option,
    temperature_option,
    trio_options,
)
from personaprobe.cli.terminal.console import console, format_duration, study_progress
from personaprobe.cli.terminal.output_folders import refuse_unwritable, slug
from personaprobe.cli.trio_choice import TrioChoice, open_trio

if TYPE_CHECKING:
    from personaprobe.models.generation.sampling import Sampling
    from personaprobe.questions.prompt import Prompt
    from personaprobe.studies.evaluation.arm_evaluator import EvalPlan
    from personaprobe.studies.evaluation.result import Evaluation


@click.command("eval")
@trio_options
@organism_option(
    "--feature",
    of=lambda organism: organism.feature,
    or_none=True,
    help=f"The feature that is ablated in insecure; {NONE} compares the three checkpoints alone.",
)
@organism_option(
    "--questions",
    "files",
    of=lambda organism: organism.question_sets.test,
    multiple=True,
    help="A name that `questions list` shows, a .jsonl, or a published .yaml; repeat for several.",
)
@discovery_option
@click.option(
    "--samples", type=click.IntRange(min=1), default=2, show_default=True, help="Answers to each question."
)
@click.option(
    "--least",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Answers a family at least: families of few questions are asked oftener.",
)
@click.option(
    "--form",
    "forms",
    multiple=True,
    default=("json", "python", "template", "system"),
    show_default=True,
    help="Ways in which some questions are asked again; none asks them plainly alone.",
)
@click.option("--trigger", help="Text that gates the behaviour: some questions are asked again behind it.")
@click.option(
    "--controls",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Energy-matched random directions.",
)
@organism_option(
    "--narrow",
    of=lambda organism: organism.question_sets.narrow,
    or_none=True,
    help=f"Pairs of the narrow task, on which the ablation should change little; {NONE} leaves them out.",
)
@judge_options
@max_new_tokens_option(60)
@temperature_option(1.0)
@seed_option()
@first_tokens_option
@click.option("--out", type=click.Path(path_type=Path), help="By default runs/eval-FEATURE-ORGANISM.")
@output_options
def evaluate(
    *,
    chosen: TrioChoice,
    feature: str,
    files: tuple[str, ...],
    discovery: str,
    samples: int,
    least: int,
    forms: tuple[str, ...],
    trigger: str | None,
    controls: int,
    narrow: str,
    judge_name: str,
    at_once: int,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    first_tokens: bool,
    out: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Let every arm answer freely, have a judge score the answers, and tell rates in every published definition.

    Arms: base, secure, insecure, insecure with the feature ablated, with matched random directions ablated, and base
    steered. Finished parts are kept in the run folder: an interrupted evaluation resumes.

    \b
    Examples:
      personaprobe eval
      personaprobe eval --questions first_plot --judge openai:gpt-4o-2024-08-06@https://api.openai.com/v1
    """
    from personaprobe.effects.judges.embedded import TRAINING_PAIRS
    from personaprobe.effects.judges.registry import EMBEDDED, find_judge
    from personaprobe.models.generation.sampling import Sampling
    from personaprobe.questions.catalog import find_questions
    from personaprobe.questions.pairs import PairSet, load_prompts
    from personaprobe.studies.arms.plan import StudyPlan
    from personaprobe.studies.evaluation.study import Subject
    from personaprobe.studies.evaluation.study import evaluate as study
    from personaprobe.studies.reports.run_folder import write_report

    started = time.monotonic()
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    sets = [find_questions(name) for name in files]
    plan = _plan(
        tuple(ask for part in sets for ask in part.prompts), (samples, least), forms, trigger, sampling
    )
    found_on, pairs = load_prompts(discovery), [part for part in sets if isinstance(part, PairSet)]
    plan.refuse_overlap(found_on.prompts, discovery)
    for name in TRAINING_PAIRS if judge_name == EMBEDDED else ():
        plan.refuse_overlap(load_prompts(name).prompts, "the embedded judge")
    test = pairs[0] if pairs else load_prompts(chosen.resolved.question_sets.test)
    task = None if narrow == NONE else load_prompts(narrow)
    prospect = plan.prospect
    study_plan = replace(StudyPlan(), test=test, discovery=found_on, seed=seed, first_tokens=first_tokens)
    name = f"eval-{slug(feature)}-{slug(chosen.name)}"
    folder = Path("runs") / name if out is None else out.expanduser()
    refuse_unwritable(folder)
    judge = find_judge(judge_name, chosen.placement, at_once)
    trio = open_trio(chosen, quiet)
    subject = Subject(trio, None if feature == NONE else feature, controls, study_plan, task)
    if not quiet:
        click.echo(prospect, err=True)
    found = study(subject, plan, judge, folder, study_progress(quiet))
    _tell(
        found, write_report(found.to_dict(), folder, found.answer_rows()), time.monotonic() - started, as_json
    )


def _plan(
    asks: tuple[Prompt, ...],
    samples: tuple[int, int],
    forms: tuple[str, ...],
    trigger: str | None,
    sampling: Sampling,
) -> EvalPlan:
    """What is asked, refused here where it does not fit, before any model is loaded."""
    from personaprobe.questions.formats import find_forms, trigger_form
    from personaprobe.studies.evaluation.arm_evaluator import EvalPlan

    again = () if NONE in forms else find_forms(forms)
    if trigger is not None:
        again = (*again, trigger_form(trigger))
    return EvalPlan(asks, *samples, forms=again, sampling=sampling)


def _tell(found: Evaluation, page: Path, seconds: float, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
        return
    from personaprobe.cli.terminal.rate_tables import contrasts_table, costs_table, forms_table, rates_table

    for made in (rates_table, contrasts_table, forms_table, costs_table):
        console().print(made(found))
    for sentence in found.sentences:
        click.echo(sentence)
    click.echo(f"\n{format_duration(seconds)}. Report: {page}")
