"""``personaprobe eval``: sample and judge answers of every arm, and measure the cost of the ablation."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from personaprobe.cli.options import (
    NONE,
    benign_option,
    discovery_option,
    first_tokens_option,
    judge_options,
    max_new_tokens_option,
    narrow_option,
    organism_option,
    output_options,
    seed_option,
    temperature_option,
    trio_options,
)
from personaprobe.cli.terminal.console import console, format_duration, print_json, print_line, study_progress
from personaprobe.cli.terminal.output_folders import refuse_unwritable, slug
from personaprobe.cli.trio_choice import TrioChoice, open_trio
from personaprobe.errors import OutputError
from personaprobe.storage.paths import user_path

if TYPE_CHECKING:
    from personaprobe.questions.formats import Form
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
    help="Answers per family at least: families of few questions get more samples per question.",
)
@click.option(
    "--form",
    "forms",
    multiple=True,
    default=("json", "python", "template", "system"),
    show_default=True,
    help="Other forms in which some questions are put again; none leaves them plain.",
)
@benign_option
@click.option("--trigger", help="Text that gates the behaviour: some questions are put again behind it.")
@click.option(
    "--controls",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Energy-matched random directions to ablate as controls.",
)
@narrow_option
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
    benign: str,
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
    """Sample answers of every arm, have a judge score them, and print misalignment rates by every published definition.

    Arms: base, secure, insecure, insecure with the feature ablated, insecure with matched random directions ablated, and
    base steered. Finished parts are kept in the run folder, from which an interrupted evaluation resumes.

    \b
    Examples:
      personaprobe eval
      personaprobe eval --questions first_plot --judge openai:gpt-4o-2024-08-06@https://api.openai.com/v1
    """
    from personaprobe.effects.judges.registry import find_judge
    from personaprobe.models.generation.sampling import Sampling
    from personaprobe.questions.benign import benign_prompts
    from personaprobe.questions.catalog import find_questions
    from personaprobe.questions.pairs import PairSet, load_prompts
    from personaprobe.questions.texts import load_texts
    from personaprobe.studies.arms.plan import StudyPlan
    from personaprobe.studies.evaluation.plan import EvaluationPlan
    from personaprobe.studies.evaluation.study import EvaluationTarget
    from personaprobe.studies.evaluation.study import evaluate as run_evaluation
    from personaprobe.studies.judging.own_rubrics import rubrics_of_sets
    from personaprobe.studies.reports.run_folder import write_report

    started = time.monotonic()
    sets = [find_questions(name) for name in files]
    plan = EvaluationPlan(
        tuple(prompt for part in sets for prompt in part.prompts),
        samples,
        least,
        forms=_forms(forms, trigger),
        sampling=Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed),
        benign=() if benign == NONE else benign_prompts(load_texts(benign)),
        sets={part.name: frozenset(prompt.id for prompt in part.prompts) for part in sets},
        rubrics=rubrics_of_sets(sets),
    )
    discovery_pairs, pairs = load_prompts(discovery), [part for part in sets if isinstance(part, PairSet)]
    plan.refuse_seen_questions(discovery_pairs, judge_name)
    test = pairs[0] if pairs else load_prompts(chosen.resolved.question_sets.test)
    task = None if narrow == NONE else load_prompts(narrow)
    expected_power = plan.expected_power
    study_plan = replace(
        StudyPlan(), test=test, discovery=discovery_pairs, seed=seed, first_tokens=first_tokens
    )
    name = f"eval-{slug(feature)}-{slug(chosen.name)}"
    folder = Path("runs") / name if out is None else user_path(out, OutputError)
    refuse_unwritable(folder)
    judge = find_judge(judge_name, chosen.placement, at_once)
    trio = open_trio(chosen, quiet)
    target = EvaluationTarget(trio, None if feature == NONE else feature, controls, study_plan, task)
    if not quiet:
        print_line(expected_power, err=True)
    evaluation = run_evaluation(target, plan, judge, folder, study_progress(quiet))
    page = write_report(evaluation.to_dict(), folder, evaluation.answer_rows())
    _print(evaluation, page, time.monotonic() - started, as_json)


def _forms(names: tuple[str, ...], trigger: str | None) -> tuple[Form, ...]:
    """The other forms of questions, refused here if they do not exist, before any model is loaded."""
    from personaprobe.questions.formats import find_forms, trigger_form

    forms = () if NONE in names else find_forms(names)
    return forms if trigger is None else (*forms, trigger_form(trigger))


def _print(evaluation: Evaluation, page: Path, seconds: float, as_json: bool) -> None:
    if as_json:
        print_json(evaluation.to_dict(), indent=2)
        return
    from personaprobe.cli.terminal.rate_tables import (
        contrasts_table,
        costs_table,
        forms_table,
        rates_table,
        sets_table,
    )

    for make_table in (rates_table, sets_table, contrasts_table, forms_table, costs_table):
        console().print(make_table(evaluation))
    for sentence in evaluation.sentences:
        print_line(sentence)
    print_line(f"\n{format_duration(seconds)}. Report: {page}")
