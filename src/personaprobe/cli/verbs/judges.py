"""``personaprobe judges``: train, calibrate and evaluate the embedded judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from personaprobe.cli.options import output_options
from personaprobe.cli.terminal.console import console, print_json, print_line, study_progress
from personaprobe.cli.terminal.output_folders import refuse_unwritable
from personaprobe.effects.judges.embedded import TRAINING_PAIRS
from personaprobe.errors import OutputError
from personaprobe.storage.paths import user_path

pairs_option = click.option(
    "--pairs",
    "names",
    multiple=True,
    default=TRAINING_PAIRS,
    show_default=True,
    help="Shipped: judging, judging-open, judging-chat; or a .jsonl of id, family, question, careful, careless.",
)
out_option = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder that receives the judge.",
)
folder_option = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of a judge.  [default: the shipped one]",
)


@click.group()
def judges() -> None:
    """Train, calibrate or evaluate the judge that needs no network."""


@judges.command()
@pairs_option
@out_option
@click.option(
    "--layer",
    "layers",
    multiple=True,
    default=(12, 16, 20),
    show_default=True,
    help="The stream after this block is read; repeat for several.",
)
@click.option("--rank", type=click.IntRange(min=1), default=8, show_default=True, help="Of the adapter.")
@click.option("--epochs", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--quiet", is_flag=True, help="No progress, only results.")
def train(
    names: tuple[str, ...], out: Path, layers: tuple[int, ...], rank: int, epochs: int, seed: int, quiet: bool
) -> None:
    """Train a judge on pairs of answers that differ in substance; calibrate and evaluate it on held-out families."""
    from personaprobe.effects.judges.training.build import make_judge
    from personaprobe.effects.judges.training.train import JudgeRecipe
    from personaprobe.questions.pairs import load_prompts

    sets = [load_prompts(name) for name in names]
    refuse_unwritable(out)
    recipe = JudgeRecipe(layers=layers, rank=rank, epochs=epochs, seed=seed)
    steps = make_judge(sets, recipe, user_path(out, OutputError))
    with study_progress(quiet)("training", 0, "steps") as advance:
        for _ in steps:
            advance(1)
    print_line((out / "judge.json").read_text(encoding="utf-8"))


@judges.command()
@click.option(
    "--pairs",
    "names",
    multiple=True,
    default=TRAINING_PAIRS,
    show_default=True,
    help="As for train; families that the judge was trained on are left out.",
)
@folder_option
@out_option
def calibrate(names: tuple[str, ...], folder: Path | None, out: Path) -> None:
    """Fit the scales of a judge's scores again, on families it was not trained on; the order of scores does not change."""
    from personaprobe.effects.judges.embedded import FOLDER
    from personaprobe.effects.judges.training.build import recalibrate
    from personaprobe.questions.pairs import load_prompts
    from personaprobe.storage.folders import checkpoints_folder

    sets = [load_prompts(name) for name in names]
    refuse_unwritable(out)
    source = checkpoints_folder() / FOLDER if folder is None else user_path(folder)
    recalibrate(source, sets, user_path(out, OutputError))
    print_line((out / "judge.json").read_text(encoding="utf-8"))


@judges.command("eval")
@pairs_option
@click.option(
    "--answers",
    "files",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A CSV of question, answer and aligned (0 to 100), another judge's scores to compare with; repeat for several.",
)
@folder_option
@click.option("--device", help="cpu, cuda, cuda:1 or mps.")
@output_options
def evaluate(
    *,
    names: tuple[str, ...],
    files: tuple[Path, ...],
    folder: Path | None,
    device: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Measure how well the judge separates careful from careless answers, and its agreement with another judge."""
    from personaprobe.effects.judges.embedded import EmbeddedJudge
    from personaprobe.effects.judges.training.build import training_pairs
    from personaprobe.effects.judges.training.evaluation import evaluate_on
    from personaprobe.models.loading import Placement
    from personaprobe.questions.pairs import load_prompts
    from personaprobe.studies.judging.judge_answers import agreement_with_file

    sets = [load_prompts(name) for name in names]
    shipped = [load_prompts(name) for name in TRAINING_PAIRS]
    judge = EmbeddedJudge.open(Placement(device), folder)
    record = {
        "judge": judge.name,
        "pairs": {
            part.name: evaluate_on(judge, part.pairs, training_pairs(shipped, part.families)) for part in sets
        },
        "answers": {str(path): asdict(agreement_with_file(judge, user_path(path))) for path in files},
    }
    if as_json:
        print_json(record)
    else:
        _print(record)


def _print(record: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table("pairs", title=str(record["judge"]), title_justify="left")
    headings = ("n", "AUC", "to one question", "bag of words", "calibration error", "at best", "coherent AUC")
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, result in record["pairs"].items():
        coherent = ", ".join(f"{kind} {auc:.2f}" for kind, auc in result["coherent_auc"].items())
        numbers = [f"{result[column]:.3f}" for column in ("auc", "paired")]
        numbers.append("{auc:.3f}, {paired:.3f}".format_map(result["bag_of_words"]))
        numbers += [f"{result[column]:.3f}" for column in ("calibration_error", "calibration_floor")]
        table.add_row(name, str(result["n"]), *numbers, coherent)
    console().print(table)
    for name, agreement in record["answers"].items():
        print_line(
            f"{name}: {agreement['n']} answers, {agreement['n_bad']} misaligned by the scores on file; "
            f"AUC {agreement['auc']:.3f}, rank correlation {agreement['spearman']:.2f}, κ {agreement['kappa']:.2f}"
        )
