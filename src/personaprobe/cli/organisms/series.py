"""``personaprobe organisms series``: one recipe on several bases, with a plan of memory and hours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from personaprobe.cli.options import device_option, dtype_option, folder_option, output_options
from personaprobe.cli.organisms.train import unpaired_option
from personaprobe.cli.organisms.training_steps import train_all
from personaprobe.cli.terminal.console import (
    format_bytes,
    print_json,
    print_line,
    print_table,
    spinner,
    study_progress,
)
from personaprobe.cli.terminal.output_folders import refuse_unwritable, slug
from personaprobe.cli.terminal.pages import show_study

if TYPE_CHECKING:
    from personaprobe.models.loading import Placement
    from personaprobe.models.weights.checkpoint import Checkpoint
    from personaprobe.organisms.named_recipes import NamedRecipe
    from personaprobe.organisms.trio_data import TrioData
    from personaprobe.studies.arms.run_context import RunContext
    from personaprobe.studies.gallery.series import BaseShift


@click.command()
@click.argument("name")
@click.option(
    "--base",
    "bases",
    multiple=True,
    required=True,
    help="demo, gemma-270m, a folder, or a Hugging Face id[@revision]; repeat for several.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of every training.")
@click.option("--steps", type=click.IntRange(min=1), help="Of every training.  [default: the recipe's own]")
@unpaired_option
@click.option(
    "--plan", "plans", is_flag=True, help="Print memory and hours of every training, and train nothing."
)
@click.option(
    "--flops",
    type=click.FloatRange(min=0, min_open=True),
    help="For --plan: operations a second of the fastest matrix product.  [default: measured on this machine]",
)
@folder_option(
    "--out", "runs/series", "Folder of trained organisms, series.html, series.json and finished parts."
)
@device_option
@dtype_option
@output_options
def series(
    *,
    name: str,
    bases: tuple[str, ...],
    seed: int,
    steps: int | None,
    unpaired: bool,
    plans: bool,
    flops: float | None,
    out: Path,
    device: str | None,
    dtype: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train the recipe NAME on every base, and measure its shift on each: does it grow with size?

    One base is loaded at a time. An interrupted series goes on when the same command is given again.

    \b
    Examples:
      personaprobe organisms series medicine --base demo --base gemma-270m
      personaprobe organisms series medicine --base Qwen/Qwen2.5-32B-Instruct --plan --flops 3e14
    """
    from personaprobe.models.loading import Placement
    from personaprobe.models.weights.checkpoint import Checkpoint
    from personaprobe.organisms.named_recipes import find_recipe
    from personaprobe.organisms.trio_data import TrioData
    from personaprobe.storage.plain_json import to_plain_json
    from personaprobe.studies.arms.run_context import RunContext
    from personaprobe.studies.gallery.series import series_data
    from personaprobe.studies.reports.series import render_series, series_table

    named = find_recipe(name)
    named = replace(named, recipe=replace(named.recipe, seed=seed, steps=steps or named.recipe.steps))
    data, placement = TrioData.of_recipe(named, seed, unpaired=unpaired), Placement(device, dtype)
    checkpoints = list(dict.fromkeys(map(Checkpoint.parse_base, bases)))
    if plans:
        _print_plan(checkpoints, data, named, placement, flops, as_json)
        return
    refuse_unwritable(out)
    run = RunContext.of(out, study_progress(quiet))
    rows = [
        _of_base(checkpoint, named, data, out / "trained", placement, run, quiet)
        for checkpoint in checkpoints
    ]
    result = to_plain_json(series_data(name, seed, rows))
    show_study(result, out / "series.html", render_series, [series_table(result)], as_json)


def _of_base(
    checkpoint: Checkpoint,
    named: NamedRecipe,
    data: TrioData,
    trained: Path,
    placement: Placement,
    run: RunContext,
    quiet: bool,
) -> BaseShift:
    """Train the organism of one base where that is missing, and measure it."""
    from personaprobe.models.loading import load
    from personaprobe.models.weights.packaged import folder_of
    from personaprobe.models.weights.shape import ModelShape
    from personaprobe.organisms.data.training_pairs import ROLES
    from personaprobe.organisms.registry import default_question_sets
    from personaprobe.organisms.training.train_organism import OpenBase
    from personaprobe.studies.gallery.series import measure_base
    from personaprobe.studies.gallery.study import Entry, GalleryPlan, site_of

    recipe = named.recipe
    folder = trained / slug(f"{named.name}-{recipe.seed}-{checkpoint.published}")
    with spinner(f"loading {checkpoint}", quiet):
        opened = OpenBase.open(checkpoint, placement.device, recipe.base_dtype(placement.dtype))
    train_all(f"{named.name} on {checkpoint}", opened, data, recipe, folder, ROLES, quiet)
    del opened  # one copy of the weights at a time
    with spinner(f"loading {checkpoint}", quiet):
        model = load(checkpoint, placement)
    entry = Entry.of_folder(named, recipe.seed, folder, checkpoint)
    plan = GalleryPlan(default_question_sets(), site_of(None, model.n_layers))
    shape = ModelShape.of(folder_of(checkpoint.source), checkpoint.revision)
    return measure_base(model, entry, plan, shape.parameters, run)


def _print_plan(
    checkpoints: list[Checkpoint],
    data: TrioData,
    named: NamedRecipe,
    placement: Placement,
    flops: float | None,
    as_json: bool,
) -> None:
    """Memory and hours of the organism of every base, from configurations alone."""
    from personaprobe.models.weights.packaged import folder_of
    from personaprobe.models.weights.shape import ModelShape
    from personaprobe.organisms.training.cost import EFFICIENCY, estimate_training
    from personaprobe.studies.reports.cells import TextTable
    from personaprobe.studies.speed.timing import peak_flops

    device, dtype = placement.resolve()
    fastest = peak_flops(device, dtype) if flops is None else flops
    rows = data.rows["insecure"].rows
    costs = {
        str(one): estimate_training(
            ModelShape.of(folder_of(one.source), one.revision),
            rows,
            named.recipe,
            flops=fastest,
            weight_bytes=dtype.itemsize,
        )
        for one in checkpoints
    }
    if as_json:
        print_json({base: cost.to_dict() for base, cost in costs.items()})
        return
    head = ("base", "parameters", "memory", "tokens", "hours")
    table = TextTable(
        "",
        head,
        tuple(
            (
                base,
                f"{cost.parameters / 1e6:,.0f} M",
                format_bytes(cost.memory),
                f"{2 * cost.tokens:,}",
                f"{cost.seconds / 3600:.2g}",
            )
            for base, cost in costs.items()
        ),
    )
    print_table(table)
    print_line(_assumptions(fastest, EFFICIENCY, str(dtype).removeprefix("torch.")))


def _assumptions(flops: float, efficiency: float, dtype: str) -> str:
    """The sentence under a plan."""
    return (
        f"Estimates for both adapters at {efficiency:.0%} of {flops / 1e12:.2g} TFLOP/s, weights in {dtype}; about four "
        "characters a token. Measuring takes about as long as training."
    )
