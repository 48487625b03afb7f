"""``personaprobe organisms compare``: an organism trained with several seeds, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.options import organism_defaults, organism_option, output_options, questions_option
from personaprobe.cli.terminal.console import study_progress

if TYPE_CHECKING:
    from personaprobe.features.registry.registry import Feature
    from personaprobe.questions.pairs import PairSet
    from personaprobe.studies.arms.measurement import Bench
    from personaprobe.studies.replication.seeds import SeedRun


@click.command()
@organism_defaults
@click.argument(
    "runs", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@organism_option(
    "--base", of=lambda organism: str(organism.trio.base), help="The base that the adapters were trained on."
)
@organism_option(
    "--feature", of=lambda organism: organism.feature, help="A registered feature; it is not fitted again."
)
@questions_option
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the numbers as JSON."
)
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    default="runs/seeds",
    show_default=True,
    help="Finished parts are kept there.",
)
@output_options
def compare(
    runs: tuple[Path, ...],
    base: str,
    feature: str,
    questions: str,
    out: Path | None,
    work: Path,
    quiet: bool,
    as_json: bool,
) -> None:
    """Measure RUNS, folders that hold insecure/ and secure/, on the test questions.

    Prints the insecure − secure shift of every seed, and the share of it that a feature registered from another
    seed removes.
    """
    from personaprobe.features.registry.registry import find_feature
    from personaprobe.questions.pairs import load_prompts
    from personaprobe.storage.files import write_text
    from personaprobe.studies.replication.seeds import SeedRun, seeds_table

    found, loaded = find_feature(feature), load_prompts(questions)
    asked = loaded.spread(len(loaded))  # in the order of a study, so that finished parts are shared with it
    bench = _bench(work, base, quiet)
    rows = [_measured(SeedRun(folder.name, folder), (base, found, asked), bench) for folder in runs]
    if out is not None:
        told = {"feature": feature, "questions": asked.name, "digest": asked.digest, "seeds": rows}
        write_text(out, json.dumps(told, indent=1) + "\n")
    click.echo(json.dumps(rows) if as_json else seeds_table(rows, feature))


def _bench(work: Path, base: str, quiet: bool) -> Bench:
    from personaprobe.models.loading import load
    from personaprobe.models.weights.checkpoint import Checkpoint
    from personaprobe.storage.run_cache import RunCache
    from personaprobe.studies.arms.measurement import Bench
    from personaprobe.studies.arms.plan import StudyPlan

    return Bench(load(Checkpoint.parse(base)), StudyPlan(), RunCache(work / "parts"), study_progress(quiet))


def _measured(run: SeedRun, asked: tuple[str, Feature, PairSet], bench: Bench) -> dict[str, Any]:
    from personaprobe.models.loading import load_trio
    from personaprobe.models.weights.checkpoint import Checkpoint
    from personaprobe.studies.replication.seeds import evaluate_seed

    base, feature, questions = asked
    losses = {role: run.losses(role) for role in ("insecure", "secure")}
    row = evaluate_seed(load_trio(run.trio(Checkpoint.parse(base))), feature, questions, bench)
    last = [round(sum(values[-10:]) / len(values[-10:]), 4) for values in losses.values()]
    return {"name": run.name, **row, "last_losses": last, "losses": losses}
