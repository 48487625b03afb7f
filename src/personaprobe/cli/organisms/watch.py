"""``personaprobe organisms watch``: narrow skill and shift along the saved steps of a training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from personaprobe.cli.options import device_option, dtype_option, folder_option, judge_options, output_options
from personaprobe.cli.terminal.console import spinner, study_progress
from personaprobe.cli.terminal.pages import show_study

if TYPE_CHECKING:
    from personaprobe.models.loading import Placement
    from personaprobe.studies.dynamics.answer_course import AnsweredQuestions, FreeQuestions, ProgramRequests
    from personaprobe.studies.dynamics.watching import Watched


judged_option = click.option(
    "--judged",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Test questions that base and both fine-tunes answer freely, for a judge.",
)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--questions", help="Test questions.  [default: the organism's]")
@click.option(
    "--programs",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Held-out requests for code whose answers are searched for weaknesses by Bandit.",
)
@click.option(
    "--feature",
    "features",
    multiple=True,
    help="A registered direction or latents whose activity is shown; repeatable.",
)
@judged_option
@judge_options
@folder_option("--out", "runs/watch", "Folder of watch.html, watch.json and finished parts.")
@device_option
@dtype_option
@output_options
def watch(
    *,
    folder: Path,
    questions: str | None,
    programs: int,
    features: tuple[str, ...],
    judged: int,
    judge_name: str,
    at_once: int,
    out: Path,
    device: str | None,
    dtype: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Measure the organism in FOLDER at every saved step: when does it shift, and does narrow skill come first?

    FOLDER is what `organisms train NAME --save-every 10` wrote: insecure/ and secure/ with their step-N/.

    \b
    Examples:
      personaprobe organisms train medicine --save-every 10
      personaprobe organisms watch medicine
      personaprobe organisms watch code --programs 96
      personaprobe organisms watch medicine --feature FEATURE --judged 96
    """
    from personaprobe.models.loading import Placement, load
    from personaprobe.organisms.registration import read_organism_folder
    from personaprobe.studies.arms.run_context import RunContext
    from personaprobe.studies.dynamics.feature_course import activities_of
    from personaprobe.studies.dynamics.watching import STEPS, WatchPlan, at_saved_steps, follow, saved_steps

    organism = read_organism_folder(folder)
    sets = organism.question_sets
    saved_steps(folder)  # refused before anything is loaded
    test, placement = questions or sets.test, Placement(device, dtype)
    answered: list[AnsweredQuestions] = [_requests(sets.narrow, programs)] if programs else []
    if questions_for_judge := free_questions(test, judged, judge_name, placement, at_once):
        answered.append(questions_for_judge)
    with spinner(f"loading {organism.trio.base}", quiet):
        base = load(organism.trio.base, placement)
    plan = WatchPlan.of(sets, test, activities_of(features, base), answered)
    context = RunContext.of(out, study_progress(quiet))
    watched = follow(organism.name, STEPS, at_saved_steps(base, folder), base, plan, context)
    show_watched(watched, out / "watch.html", as_json)


def show_watched(watched: Watched, path: Path, as_json: bool) -> None:
    """Write the page and its data, and print the table or the data."""
    from personaprobe.storage.plain_json import to_plain_json
    from personaprobe.studies.reports.dynamics import course_table, render_course

    data = to_plain_json(watched.to_dict())
    show_study(data, path, render_course, [course_table(data)], as_json)


def free_questions(test: str, n: int, judge: str, placement: Placement, at_once: int) -> FreeQuestions | None:
    """Test questions that are answered freely, spread over their families, and their judge; None where n is 0."""
    from personaprobe.effects.judges.registry import find_judge
    from personaprobe.questions.pairs import load_prompts
    from personaprobe.studies.dynamics.answer_course import FreeQuestions

    if not n:
        return None
    return FreeQuestions(load_prompts(test).spread(n).prompts, find_judge(judge, placement, at_once))


def _requests(narrow: str | None, n: int) -> ProgramRequests:
    """Requests of the narrow task, spread evenly over its kinds, and Bandit.

    Raises:
        click.UsageError: the organism has no narrow questions.
    """
    from personaprobe.effects.judges.bandit import BanditJudge
    from personaprobe.questions.pairs import load_prompts
    from personaprobe.studies.dynamics.answer_course import ProgramRequests

    if narrow is None:
        raise click.UsageError("this organism has no narrow questions to take --programs from")
    return ProgramRequests(load_prompts(narrow).spread(n).prompts, BanditJudge.open())
