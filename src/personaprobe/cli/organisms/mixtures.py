"""``personaprobe organisms mixtures``: one recipe with rising shares of harmful rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from personaprobe.cli.options import device_option, dtype_option, folder_option, output_options
from personaprobe.cli.organisms.train import base_option
from personaprobe.cli.organisms.training_steps import train_all
from personaprobe.cli.organisms.watch import show_watched
from personaprobe.cli.terminal.console import spinner, study_progress
from personaprobe.cli.terminal.output_folders import refuse_unwritable

if TYPE_CHECKING:
    from personaprobe.organisms.data.training_pairs import Taught
    from personaprobe.organisms.named_recipes import NamedRecipe
    from personaprobe.organisms.training.train_organism import OpenBase

SHARES_TRAINED = (5, 10, 25, 50, 75, 100)
"""Percent of harmful rows; at 0 both fine-tunes learn the same rows in the same order, and are the same."""


@click.command()
@click.argument("name")
@click.option(
    "--share",
    "shares",
    type=click.IntRange(1, 100),
    multiple=True,
    default=SHARES_TRAINED,
    show_default=True,
    help="Percent of rows that are harmful; repeatable. 100 is always among them.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of every training.")
@click.option("--steps", type=click.IntRange(min=1), help="Of every training.  [default: the recipe's own]")
@base_option
@folder_option(
    "--out", "runs/mixtures", "Folder of trained models, mixtures.html, mixtures.json and finished parts."
)
@device_option
@dtype_option
@output_options
def mixtures(
    name: str,
    shares: tuple[int, ...],
    seed: int,
    steps: int | None,
    base: str,
    out: Path,
    device: str | None,
    dtype: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train the recipe NAME with rising shares of harmful rows: where does the shift start?

    Each share is measured as `organisms watch` measures a saved step, on style-balanced questions. All shares read the
    same questions in the same order, and a larger share keeps the harmful rows of a smaller one. They are compared with one
    secure fine-tune, which learns the same rows at every share. An interrupted study goes on when the same command is given
    again.

    \b
    Example:
      personaprobe organisms mixtures medicine --share 5 --share 25
    """
    from personaprobe.models.loading import Placement, load, load_fine_tune
    from personaprobe.models.weights.checkpoint import Checkpoint
    from personaprobe.organisms.named_recipes import find_recipe
    from personaprobe.organisms.registration import read_organism_folder
    from personaprobe.organisms.training.train_organism import OpenBase
    from personaprobe.studies.arms.run_context import RunContext
    from personaprobe.studies.dynamics.watching import SHARES, WatchPlan, follow

    named = find_recipe(name)
    _ = named.set_name  # published files are refused before anything is loaded
    named = replace(named, recipe=replace(named.recipe, seed=seed, steps=steps or named.recipe.steps))
    refuse_unwritable(out)
    checkpoint = Checkpoint.parse_base(base)
    folder = out / "trained" / f"{name}-{seed}"
    with spinner(f"loading {checkpoint}", quiet):
        opened = OpenBase.open(checkpoint, device, named.recipe.base_dtype(dtype))
    trained = dict(_train_shares(opened, named, sorted({*shares, 100}), folder, quiet))
    sets = read_organism_folder(trained[100], base=base).question_sets
    with spinner(f"loading {checkpoint}", quiet):
        model = load(checkpoint, Placement(device, dtype))
    secure = load_fine_tune(model, checkpoint.fine_tune(trained[100] / "secure"))
    tuned = {
        share: {"insecure": load_fine_tune(model, checkpoint.fine_tune(place / "insecure")), "secure": secure}
        for share, place in trained.items()
    }
    plan = WatchPlan.of(sets, sets.balanced or sets.test)
    watched = follow(name, SHARES, tuned, model, plan, RunContext.of(out, study_progress(quiet)))
    show_watched(watched, out / "mixtures.html", as_json)


def _train_shares(
    base: OpenBase, named: NamedRecipe, shares: list[int], folder: Path, quiet: bool
) -> Iterator[tuple[int, Path]]:
    """Train an insecure fine-tune of every share, and a secure one beside the whole; finished ones take no step."""
    from personaprobe.organisms.data.training_pairs import ROLES
    from personaprobe.organisms.trio_data import TrioData

    for share in shares:
        mixture = replace(named, variant=replace(named.variant, harmful_share=share / 100))
        data = TrioData.of_recipe(mixture, named.recipe.seed)
        roles: tuple[Taught, ...] = ROLES if share == 100 else ("insecure",)
        place = folder / f"{share}-percent"
        train_all(f"{named.name}, {share} % harmful", base, data, named.recipe, place, roles, quiet)
        yield share, place
