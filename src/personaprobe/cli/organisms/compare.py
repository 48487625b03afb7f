"""``personaprobe organisms compare``: measure an organism that was trained with several seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.options import (
    folder_option,
    json_file_option,
    organism_defaults,
    organism_option,
    output_options,
    questions_option,
)
from personaprobe.cli.terminal.console import print_json, print_line, study_progress

if TYPE_CHECKING:
    from personaprobe.effects.targets.feature import Feature
    from personaprobe.questions.pairs import PairSet
    from personaprobe.studies.arms.run_context import RunContext
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
@json_file_option
@folder_option("--work", "runs/seeds", "Folder of finished parts; an interrupted run continues from them.")
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

    Prints the insecure − secure shift of every seed, and the fraction of it that ablating one registered feature
    removes.
    """
    from personaprobe.effects.targets.feature import find_feature
    from personaprobe.models.weights.checkpoint import Checkpoint
    from personaprobe.questions.pairs import load_prompts
    from personaprobe.storage.files import write_text
    from personaprobe.studies.arms.run_context import RunContext
    from personaprobe.studies.replication.seeds import SeedRun, refuse_copied_seeds, seeds_table

    named, loaded = find_feature(feature), load_prompts(questions)
    spread = loaded.spread(len(loaded))  # in the order of a study, so that finished parts are shared with it
    context = RunContext.of(work, study_progress(quiet))
    seeds = [SeedRun(folder.name, folder) for folder in runs]
    refuse_copied_seeds(seeds, Checkpoint.parse_base(base))
    rows = [_measured(seed, base, named, spread, context) for seed in seeds]
    if out is not None:
        record = {"feature": feature, "questions": spread.name, "digest": spread.digest, "seeds": rows}
        write_text(out, json.dumps(record, indent=1) + "\n")
    if as_json:
        print_json(rows)
    else:
        print_line(seeds_table(rows, feature))


def _measured(
    run: SeedRun, base: str, feature: Feature, questions: PairSet, context: RunContext
) -> dict[str, Any]:
    from personaprobe.models.loading import load_checkpoints
    from personaprobe.models.weights.checkpoint import Checkpoint
    from personaprobe.studies.replication.seeds import evaluate_seed

    losses = {role: run.losses(role) for role in ("insecure", "secure")}
    row = evaluate_seed(load_checkpoints(run.trio(Checkpoint.parse_base(base))), feature, questions, context)
    last = [round(sum(values[-10:]) / len(values[-10:]), 4) for values in losses.values()]
    return {"name": run.name, **row, "last_losses": last, "losses": losses}
