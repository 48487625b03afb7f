"""``personaprobe judges``: the embedded judge, made and examined."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.options import telling_options
from personaprobe.cli.terminal.console import console, study_progress
from personaprobe.cli.terminal.output_folders import refuse_unwritable
from personaprobe.compute.hardware import DTYPES

if TYPE_CHECKING:
    from personaprobe.effects.judges.agreement import Agreement
    from personaprobe.effects.judges.embedded import EmbeddedJudge

pairs_option = click.option(
    "--pairs",
    "names",
    multiple=True,
    default=("judging",),
    show_default=True,
    help="judging or judging-open (shipped), or a .jsonl of id, family, question, careful, careless; repeat for several.",
)


@click.group()
def judges() -> None:
    """Make or examine the judge that needs no network."""


@judges.command()
@pairs_option
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Receives the judge."
)
@click.option("--layer", default=20, show_default=True, help="The stream after this block is read.")
@click.option("--rank", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--quiet", is_flag=True, help="No progress, only results.")
def train(
    names: tuple[str, ...], out: Path, layer: int, rank: int, epochs: int, seed: int, quiet: bool
) -> None:
    """Train a judge on pairs of answers that differ in substance; calibrate and examine it on families it did not read."""
    from personaprobe.effects.judges.training.build import make_judge
    from personaprobe.effects.judges.training.train import JudgeRecipe
    from personaprobe.questions.pairs import load_prompts

    sets = [load_prompts(name) for name in names]
    refuse_unwritable(out)
    recipe = JudgeRecipe(layer=layer, rank=rank, epochs=epochs, seed=seed)
    steps = make_judge(sets, recipe, out.expanduser())
    with study_progress(quiet)("training", 0, "steps") as advance:
        for _ in steps:
            advance(1)
    click.echo((out / "judge.json").read_text(encoding="utf-8"))


@judges.command()
@click.option(
    "--pairs",
    "names",
    multiple=True,
    default=("judging", "judging-open"),
    show_default=True,
    help="As for train; families that the judge learned from are left out.",
)
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), help="Another judge than the shipped."
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Receives the judge."
)
def calibrate(names: tuple[str, ...], folder: Path | None, out: Path) -> None:
    """Fit the scale of a judge's scores again, on families that it did not learn from; their order stays."""
    from personaprobe.effects.judges.embedded import FOLDER
    from personaprobe.effects.judges.training.build import recalibrate
    from personaprobe.questions.pairs import load_prompts
    from personaprobe.storage.folders import checkpoints_folder

    sets = [load_prompts(name) for name in names]
    refuse_unwritable(out)
    recalibrate(
        checkpoints_folder() / FOLDER if folder is None else folder.expanduser(), sets, out.expanduser()
    )
    click.echo((out / "judge.json").read_text(encoding="utf-8"))


@judges.command("eval")
@pairs_option
@click.option(
    "--answers",
    "files",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A CSV of question, answer and aligned (0 to 100): another judge's scores to be compared with; repeat.",
)
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), help="Another judge than the shipped."
)
@click.option("--device", help="cpu, cuda, cuda:1 or mps.")
@click.option("--dtype", type=click.Choice(DTYPES), help="Of the judge.")
@telling_options
def examine(
    *,
    names: tuple[str, ...],
    files: tuple[Path, ...],
    folder: Path | None,
    device: str | None,
    dtype: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Tell how well the judge tells careful answers from careless ones, and how it agrees with another judge."""
    from personaprobe.effects.judges.agreement import coherence_auc, sharpness
    from personaprobe.effects.judges.embedded import EmbeddedJudge
    from personaprobe.effects.judges.training.calibration import Reading
    from personaprobe.models.loading import Placement
    from personaprobe.questions.pairs import load_prompts

    sets = [load_prompts(name) for name in names]
    judge = EmbeddedJudge.open(Placement(device, dtype), folder)
    told = {
        "judge": judge.name,
        "pairs": {
            part.name: {
                **asdict(sharpness(judge, part.pairs)),
                "coherent_auc": coherence_auc(Reading.of_spoiled(judge, part.pairs, seed=1)),
            }
            for part in sets
        },
        "answers": {str(path): asdict(compared(judge, path)) for path in files},
    }
    if as_json:
        click.echo(json.dumps(told).replace("NaN", "null"))
    else:
        _show(told)


def compared(judge: EmbeddedJudge, path: Path) -> Agreement:
    """The judge's scores beside those on file; answers that either leaves unscored are left out."""
    from personaprobe.effects.judges.judge import Case
    from personaprobe.effects.judges.rates import Judged
    from personaprobe.effects.judges.rubrics import OWN
    from personaprobe.errors import DataError
    from personaprobe.studies.judging.judge_answers import Answers

    answers = Answers.read(path.expanduser())
    if "aligned" not in answers.columns:
        raise DataError(f"{path} has no column aligned; give another judge's scores to compare with")
    cases = [Case(OWN["aligned"], row["question"], row["answer"]) for row in answers.rows]
    found = answers.agreement([Judged(each, each) for each in judge.judge(cases)])
    if found is None:
        raise DataError(f"{path} has no answer that both judges scored; aligned holds numbers from 0 to 100")
    return found


def _show(told: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table("pairs", title=str(told["judge"]), title_justify="left")
    for heading in ("n", "AUC", "to one question", "calibration error", "at best", "coherent AUC"):
        table.add_column(heading, justify="right")
    for name, found in told["pairs"].items():
        coherent = ", ".join(f"{kind} {auc:.2f}" for kind, auc in found["coherent_auc"].items())
        cells = (f"{found[key]:.3f}" for key in ("auc", "paired", "calibration_error", "calibration_floor"))
        table.add_row(name, str(found["n"]), *cells, coherent)
    console().print(table)
    for name, found in told["answers"].items():
        click.echo(
            f"{name}: {found['n']} answers, {found['n_bad']} misaligned by the scores on file; AUC {found['auc']:.3f}, "
            f"rank correlation {found['spearman']:.2f}, κ {found['kappa']:.2f}"
        )
