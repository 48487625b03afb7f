"""``personaprobe organisms gallery``: train recipes, and ablate the persona of each organism in all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from personaprobe.cli.options import device_option, dtype_option, folder_option, judge_options, output_options
from personaprobe.cli.organisms.train import base_option, unpaired_option
from personaprobe.cli.organisms.training_steps import train_all
from personaprobe.cli.organisms.watch import free_questions, judged_option
from personaprobe.cli.terminal.console import spinner, study_progress
from personaprobe.cli.terminal.output_folders import refuse_unwritable
from personaprobe.cli.terminal.pages import show_study

if TYPE_CHECKING:
    from personaprobe.models.weights.checkpoint import Checkpoint
    from personaprobe.organisms.named_recipes import NamedRecipe
    from personaprobe.organisms.trio_data import TrioData
    from personaprobe.studies.gallery.study import Entry

SAVE_EVERY = 10
"""Steps between saved checkpoints, so that `organisms watch` can follow every organism whose recipe saves some."""


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--seed",
    "seeds",
    type=int,
    multiple=True,
    default=(0,),
    show_default=True,
    help="Of trainings whose NAME ends in none, as medicine-1 does; repeatable.",
)
@click.option("--steps", type=click.IntRange(min=1), help="Of every training.  [default: each recipe's own]")
@click.option(
    "--form",
    "forms",
    multiple=True,
    help="Measure shifts with answers in another form too: json, python, template, program; repeatable.",
)
@judged_option
@judge_options
@unpaired_option
@base_option
@folder_option(
    "--out", "runs/gallery", "Folder of trained organisms, gallery.html, gallery.json and finished parts."
)
@device_option
@dtype_option
@output_options
def gallery(
    *,
    names: tuple[str, ...],
    seeds: tuple[int, ...],
    steps: int | None,
    forms: tuple[str, ...],
    judged: int,
    judge_name: str,
    at_once: int,
    unpaired: bool,
    base: str,
    out: Path,
    device: str | None,
    dtype: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train the recipes NAMES, and measure whether one persona explains several organisms.

    Without NAMES these are all recipes of the base on the package's own data; those of published files are trained where
    they are named.

    Each organism's shift is measured on test, style-balanced and narrow questions. Then its difference of means is ablated
    in every organism, beside controls that are matched on the energy they remove. Registered organisms of the same base are
    measured too. An interrupted gallery goes on where it was when the same command is given again.

    \b
    Examples:
      personaprobe organisms gallery
      personaprobe organisms gallery medicine code --seed 0 --seed 1
      personaprobe organisms gallery medicine medicine-1 medicine-2 code
    """
    from personaprobe.features.registry.registry import registered
    from personaprobe.models.loading import Placement, load
    from personaprobe.models.weights.checkpoint import Checkpoint
    from personaprobe.organisms.named_recipes import recipes_of_own_data, seeded_recipes
    from personaprobe.organisms.registry import default_feature, default_question_sets
    from personaprobe.questions.formats import find_answer_forms
    from personaprobe.storage.plain_json import to_plain_json
    from personaprobe.studies.arms.run_context import RunContext
    from personaprobe.studies.gallery.study import GalleryPlan, measure_gallery, site_of
    from personaprobe.studies.reports.gallery import gallery_data, gallery_tables, render_gallery

    recipes = [
        replace(named, recipe=replace(named.recipe, steps=steps or named.recipe.steps))
        for name in names or [one.name for one in recipes_of_own_data().values() if one.base == base]
        for named in seeded_recipes(name, seeds)
    ]
    asked_forms = find_answer_forms(forms)
    rows = _rows(recipes, unpaired)
    refuse_unwritable(out)
    checkpoint = Checkpoint.parse_base(base)
    entries = _trained(rows, checkpoint, out, device, dtype, quiet)
    entries += _registered(checkpoint, {named.name for named in recipes})
    with spinner(f"loading {checkpoint}", quiet):
        model = load(checkpoint, Placement(device, dtype))
    feature = default_feature()
    known = feature if feature in registered() else None  # a registry of one's own may lack the package's
    site = site_of(known, model.n_layers)
    sets = default_question_sets()
    questions = free_questions(sets.test, judged, judge_name, Placement(device, dtype), at_once)
    plan = GalleryPlan(sets, site, known, forms=asked_forms, judged=questions)
    members = measure_gallery(model, entries, plan, RunContext.of(out, study_progress(quiet)))
    data = to_plain_json(gallery_data(members, plan))
    show_study(data, out / "gallery.html", render_gallery, gallery_tables(data), as_json)


def _rows(recipes: Sequence[NamedRecipe], unpaired: bool) -> dict[NamedRecipe, TrioData]:
    """The training data of every recipe, each once; all are read before the first training begins."""
    from personaprobe.organisms.trio_data import TrioData

    return {
        named: TrioData.of_recipe(named, named.recipe.seed, unpaired=unpaired)
        for named in dict.fromkeys(recipes)
    }


def _trained(
    rows: Mapping[NamedRecipe, TrioData],
    base: Checkpoint,
    out: Path,
    device: str | None,
    dtype: str | None,
    quiet: bool,
) -> list[Entry]:
    """Train what is missing; finished organisms take no step."""
    from personaprobe.organisms.data.training_pairs import ROLES
    from personaprobe.organisms.training.train_organism import OpenBase
    from personaprobe.studies.gallery.study import Entry

    @cache
    def opened(dtype: str | None) -> OpenBase:
        with spinner(f"loading {base}", quiet):
            return OpenBase.open(base, device, dtype)

    entries = []
    for named, data in rows.items():
        saves = named.recipe.save_every > 0  # whole models would fill the disk
        recipe = replace(named.recipe, save_every=SAVE_EVERY) if saves else named.recipe
        base_of_recipe = opened(recipe.base_dtype(dtype))
        folder = out / "trained" / f"{named.name}-{recipe.seed}"
        train_all(f"{named.name}, seed {recipe.seed}", base_of_recipe, data, recipe, folder, ROLES, quiet)
        entries.append(Entry.of_folder(named, recipe.seed, folder, base))
    return entries


def _registered(base: Checkpoint, names: set[str]) -> list[Entry]:
    """Registered organisms of the same base; not those of a recipe's name, which are trained."""
    from personaprobe.organisms.registry import registered_organisms
    from personaprobe.studies.gallery.study import Entry

    return [
        Entry.of_organism(organism)
        for organism in registered_organisms().values()
        if organism.trio.base == base and organism.name not in names
    ]
