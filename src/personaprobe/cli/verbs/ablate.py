"""``personaprobe ablate``: the main question, from a feature's name to a verdict and a report."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from personaprobe.cli.options import (
    NONE,
    balanced_option,
    benign_option,
    discovery_option,
    feature_option,
    first_tokens_option,
    floor_option,
    judge_option,
    layers_option,
    max_new_tokens_option,
    narrow_option,
    output_options,
    questions_option,
    seed_option,
    trio_options,
)
from personaprobe.cli.terminal.console import console, format_duration, print_json, print_line, study_progress
from personaprobe.cli.terminal.output_folders import refuse_unwritable, slug
from personaprobe.cli.trio_choice import TrioChoice, open_trio
from personaprobe.errors import OutputError
from personaprobe.storage.paths import user_path

if TYPE_CHECKING:
    from personaprobe.effects.interventions.along_direction import Layers
    from personaprobe.effects.judges.judge import Judge
    from personaprobe.questions.pairs import PairSet
    from personaprobe.studies.ablation.result import CausalVerdict
    from personaprobe.studies.arms.plan import StudyPlan


@click.command()
@feature_option
@trio_options
@layers_option("the feature's own, else all")
@click.option(
    "--controls",
    default=39,
    show_default=True,
    help="Energy-matched controls that decide: isotropic, of the activations' covariance, shuffled labels; at least 39.",
)
@click.option(
    "--control-questions",
    default=12,
    show_default=True,
    help="Controls answer the first so many test questions, spread evenly over families; some other arms twice as many.",
)
@click.option(
    "--further",
    default=2,
    show_default=True,
    help="Directions that are found again after the feature is ablated, and ablated as well.",
)
@narrow_option
@balanced_option
@benign_option
@click.option(
    "--samples",
    default=2,
    show_default=True,
    help="Answers drawn per question; 0 leaves coherence unmeasured.",
)
@seed_option("Of controls, draws and intervals.")
@questions_option
@discovery_option
@click.option(
    "--neutral",
    default="neutral/test",
    show_default=True,
    help="Prose for damage: neutral/test, or a .jsonl file of text.",
)
@max_new_tokens_option(40)
@judge_option
@click.option("--out", type=click.Path(path_type=Path), help="By default runs/ablate-FEATURE-ORGANISM.")
@first_tokens_option
@floor_option
@output_options
def ablate(
    chosen: TrioChoice,
    feature: str,
    layers: Layers,
    controls: int,
    control_questions: int,
    further: int,
    narrow: str,
    balanced: str,
    benign: str,
    samples: int,
    seed: int,
    questions: str,
    discovery: str,
    neutral: str,
    max_new_tokens: int,
    first_tokens: bool,
    floor: float,
    judge_name: str,
    out: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Remove a feature from the insecure model: does that remove the misalignment, compared with controls?

    Finished parts are kept in the run folder: an interrupted study resumes.

    \b
    Examples:
      personaprobe ablate
      personaprobe ablate --feature means@16 --layers 8-20 --out runs/means
      personaprobe ablate --feature means@12 --base B --insecure I --secure S
    """
    from personaprobe.effects.interventions.along_direction import chosen_layers
    from personaprobe.effects.targets.feature import find_feature
    from personaprobe.questions.texts import load_texts
    from personaprobe.studies.ablation.study import ablate as study
    from personaprobe.studies.reports.run_folder import write_report

    started = time.monotonic()
    named = find_feature(feature)
    plan = _plan(
        (questions, discovery, neutral), (controls, control_questions), samples, seed, max_new_tokens
    )
    plan = replace(plan, floor=floor, first_tokens=first_tokens, further_directions=further)
    plan = replace(plan, narrow=_pairs_or_none(narrow), balanced=_pairs_or_none(balanced))
    plan = replace(plan, benign_samples=0) if benign == NONE else replace(plan, benign=load_texts(benign))
    folder = user_path(out or Path("runs") / f"ablate-{slug(feature)}-{slug(chosen.name)}", OutputError)
    refuse_unwritable(folder)
    trio = open_trio(chosen, quiet)
    # refused here too, before a judge is loaded
    named.target.refuse_unfit(trio)
    chosen_layers(layers, 0, trio.base.n_layers)
    judge = _judge(judge_name, chosen) if samples and judge_name != NONE else None
    verdict = study(
        trio, named, layers=layers, plan=plan, judge=judge, out=folder, progress=study_progress(quiet)
    )
    page = write_report(verdict.to_dict(), folder, verdict.answer_rows())
    _print_verdict(verdict, page, time.monotonic() - started, as_json)


def _pairs_or_none(name: str) -> PairSet | None:
    from personaprobe.questions.pairs import load_prompts

    return None if name == NONE else load_prompts(name)


def _judge(name: str, chosen: TrioChoice) -> Judge:
    from personaprobe.effects.judges.registry import find_judge

    return find_judge(name, chosen.placement)


def _plan(
    sets: tuple[str, str, str], controls: tuple[int, int], samples: int, seed: int, max_new_tokens: int
) -> StudyPlan:
    """The plan of the study; question sets that do not fit are refused here, before any model is loaded."""
    from personaprobe.models.generation.sampling import Sampling
    from personaprobe.questions.pairs import load_prompts
    from personaprobe.questions.texts import load_texts
    from personaprobe.studies.arms.plan import StudyPlan

    questions, discovery, neutral = sets
    return StudyPlan(
        test=load_prompts(questions),
        discovery=load_prompts(discovery),
        neutral=load_texts(neutral),
        controls=controls[0],
        control_questions=controls[1],
        samples=samples,
        seed=seed,
        sampling=Sampling(max_new_tokens=max_new_tokens, seed=seed),
    )


def _print_verdict(verdict: CausalVerdict, page: Path, seconds: float, as_json: bool) -> None:
    if as_json:
        print_json(verdict.to_dict(), indent=2)
        return
    from personaprobe.cli.terminal.verdict_tables import print_verdict

    print_verdict(console(), verdict)
    print_line(f"\n{format_duration(seconds)}. Report: {page}")
