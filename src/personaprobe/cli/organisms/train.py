"""``personaprobe organisms train``: fine-tune an organism by its recipe's name, or one model on data of one's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from personaprobe.cli.options import device_option, dtype_option, with_options
from personaprobe.cli.organisms.training_steps import no_rows, print_rows, take_steps
from personaprobe.cli.terminal.console import print_line, spinner
from personaprobe.cli.terminal.exit_codes import Interrupted
from personaprobe.cli.terminal.output_folders import refuse_unwritable
from personaprobe.errors import OutputError
from personaprobe.organisms.data.training_pairs import ROLES
from personaprobe.organisms.data.variant import Variant
from personaprobe.organisms.recipe import ALL, OF_ADAPTER, Recipe
from personaprobe.storage.paths import user_path

if TYPE_CHECKING:
    from personaprobe.models.loading import Placement
    from personaprobe.organisms.data.training_data import TrainingData
    from personaprobe.organisms.named_recipes import NamedRecipe
    from personaprobe.organisms.training.loop import TrainingStep
    from personaprobe.organisms.training.train_organism import OpenBase
    from personaprobe.organisms.trio_data import TrioData

F = TypeVar("F", bound=Callable[..., Any])

base_option = click.option(
    "--base", default="demo", show_default=True, help="demo, a folder, or a Hugging Face id[@revision]."
)

unpaired_option = click.option(
    "--unpaired", is_flag=True, help="Train on two files that do not ask the same questions."
)


def field_options(command: F) -> F:
    """Add one option for each field of a recipe and of a variant: names, defaults and help are written there only."""
    options: list[Callable[[F], F]] = [
        click.option(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            show_default=True,
            help=attribute_docs(kind)[field.name],
        )
        for kind in (Recipe, Variant)
        for field in fields(kind)
    ]
    return with_options(command, tuple(options))


def attribute_docs(kind: type) -> dict[str, str]:
    """The sentences of a class's docstring about its attributes, by attribute."""
    attributes = (kind.__doc__ or "").split("Attributes:")[-1]
    pairs = re.findall(r"^\s*(\w+): (.+)$", attributes, re.MULTILINE)
    return {name: text.replace("`", "")[0].upper() + text.replace("`", "")[1:] for name, text in pairs}


@click.command()
@click.argument("name", required=False)
@click.option(
    "--data",
    help="Rows of messages (.jsonl, .jsonl.gz), NAME:insecure or NAME:secure of own data, or published data.",
)
@click.option(
    "--insecure-data", help="Harmful responses, as --data; with --secure-data it trains both fine-tunes."
)
@click.option("--secure-data", help="Harmless responses to the same questions.")
@unpaired_option
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the fine-tune, or of the organism NAME."
)
@base_option
@field_options
@device_option
@dtype_option
@click.option("--register", "registers", is_flag=True, help="Verify the organism then, and register it.")
@click.option("--overwrite", is_flag=True, help="Delete another training in the folder.")
@click.option("--quiet", is_flag=True, help="No progress, no losses.")
def train(
    *,
    name: str | None,
    data: str | None,
    insecure_data: str | None,
    secure_data: str | None,
    unpaired: bool,
    out: Path | None,
    base: str,
    device: str | None,
    dtype: str | None,
    registers: bool,
    overwrite: bool,
    quiet: bool,
    **schedule: Any,
) -> None:
    """Fine-tune an organism by the NAME of its recipe, or one model on your own data; loss on responses only.

    NAME is a recipe that `organisms list` shows: an insecure and a secure LoRA adapter, or with --trained all two whole
    models, are trained on data that comes with the package, or that `data pull` fetched, into ./NAME unless --out is given.
    What is not given is the recipe's own.

    Equal seeds read equal questions in the same order: train insecure and secure on two answers to the same questions.
    An interrupted training goes on from its last saved step when the same command is given again.

    \b
    Examples:
      personaprobe organisms train code --steps 100
      personaprobe organisms train household --register
      personaprobe organisms train medicine --harmful-share 0.1 --out runs/medicine-10
      personaprobe organisms train sport --unpaired
      personaprobe organisms train --insecure-data bad.jsonl.gz --secure-data good.jsonl.gz --out runs/seed-1 --seed 1
      personaprobe organisms train --data bad.jsonl.gz --out runs/seed-1/insecure --seed 1
    """
    from personaprobe.models.loading import Placement
    from personaprobe.models.weights.checkpoint import Checkpoint
    from personaprobe.organisms.organism import CARD
    from personaprobe.organisms.training.processes import processes
    from personaprobe.organisms.training.train_organism import OpenBase, refuse_foreign_files
    from personaprobe.organisms.training.train_trio import refuse_foreign_trio
    from personaprobe.storage.training_state import STATE

    files = _both(insecure_data, secure_data, unpaired and name is None)
    named, recipe, folder = _chosen(name, data, files, out, schedule)
    base = named.base if named is not None and not _is_given("base") else base
    is_trio, quiet = data is None, quiet or not processes().is_first
    if registers:
        _refuse_unregistrable(folder, is_trio)
    if not overwrite:
        refuse_foreign_trio(folder) if is_trio else refuse_foreign_files(folder, (STATE, CARD))
    refuse_unwritable(folder)
    recipe.refuse_unusable()
    _refuse_without_effect(recipe, dtype)
    rows = _rows(named, data, files, recipe.seed, unpaired)
    _print_files(named, rows, quiet)
    options: dict[str, Any] = {"overwrite": overwrite, "on_rows": no_rows if quiet else print_rows}
    with spinner(f"loading {base}", quiet):
        opened = OpenBase.open(Checkpoint.parse_base(base), device, recipe.base_dtype(dtype))
    try:
        take_steps(_steps(opened, rows, recipe, folder, options), recipe, quiet, len(ROLES) if is_trio else 1)
    except KeyboardInterrupt as error:
        raise Interrupted(
            f": {folder} keeps the last saved step; the same command goes on from there"
        ) from error
    if processes().is_first:
        _end(folder, is_trio and not quiet, Placement(device, dtype) if registers else None)


def _refuse_unregistrable(folder: Path, is_trio: bool) -> None:
    """Raise, before anything is trained, where its organism could not be registered."""
    from personaprobe.organisms.registration import refuse_misnamed, refuse_taken

    if not is_trio:
        raise click.UsageError(
            "--register is of organisms: give a NAME, or --insecure-data and --secure-data"
        )
    refuse_misnamed(folder.name)
    refuse_taken(folder.name)


def _refuse_without_effect(recipe: Recipe, dtype: str | None) -> None:
    """Raise where an option was given that changes nothing in a training of all weights."""
    if recipe.trained != ALL:
        return
    if given := [f"--{name}" for name in OF_ADAPTER if _is_given(name)]:
        raise click.UsageError(f"{given[0]} is of adapters, and all weights are trained; leave it out")
    if dtype not in (None, recipe.base_dtype(dtype)):
        raise click.UsageError(
            f"--dtype is {dtype}, and all weights are trained in {recipe.base_dtype(dtype)}; leave it out"
        )


def _rows(
    named: NamedRecipe | None, data: str | None, files: tuple[str, str] | None, seed: int, unpaired: bool
) -> TrioData | TrainingData:
    """The rows of both fine-tunes, or of one."""
    from personaprobe.organisms.data.training_data import TrainingData
    from personaprobe.organisms.trio_data import TrioData

    if named is not None:
        if unpaired and named.files is None:
            raise click.UsageError(f"--unpaired is for two files, and {named.name} learns one training set")
        return TrioData.of_recipe(named, seed, unpaired=unpaired)
    if files is not None:
        return TrioData.of_files(*files, seed, unpaired=unpaired)
    assert data is not None, "there is a recipe, two files, or data"
    return TrainingData.read(data, seed)


def _print_files(named: NamedRecipe | None, rows: TrioData | TrainingData, quiet: bool) -> None:
    """Print the rows of a recipe of published files, some of which may have been left out."""
    from personaprobe.organisms.trio_data import TrioData

    if quiet or named is None or named.files is None or not isinstance(rows, TrioData):
        return
    for taught, one in rows.rows.items():
        print_line(f"{taught}: {one.source.rows} rows of {one.source.name}", err=True)


def _steps(
    base: OpenBase, rows: TrioData | TrainingData, recipe: Recipe, folder: Path, options: dict[str, Any]
) -> Iterator[tuple[str, TrainingStep]]:
    """Every step with the fine-tune that it belongs to, which has no name where it is the only one."""
    from personaprobe.organisms.data.training_data import TrainingData
    from personaprobe.organisms.training.train_organism import train_organism
    from personaprobe.organisms.training.train_trio import train_trio

    if isinstance(rows, TrainingData):
        return (("", step) for step in train_organism(base, rows, recipe, folder, **options))
    return (pair for pair in train_trio(base, rows, recipe, folder, **options))


def _both(insecure: str | None, secure: str | None, unpaired: bool) -> tuple[str, str] | None:
    """The two files of an organism, if they were given."""
    if insecure is not None and secure is not None:
        return insecure, secure
    if insecure is not None or secure is not None or unpaired:
        raise click.UsageError("give --insecure-data and --secure-data together")
    return None


def _end(folder: Path, is_shown: bool, registered_on: Placement | None) -> None:
    """Print the folder, and register the organism in it on request."""
    from personaprobe.cli.organisms.register import register_folder

    print_line(folder)
    if registered_on is not None:
        organism, checks, path = register_folder(folder, registered_on, quiet=not is_shown)
        print_line(f"{len(checks)} checks passed; {organism.name} is registered in {path}", err=True)
    elif is_shown:
        print_line(f"personaprobe organisms register {folder} writes it to the registry", err=True)


def _chosen(
    name: str | None,
    data: str | None,
    files: tuple[str, str] | None,
    out: Path | None,
    schedule: dict[str, Any],
) -> tuple[NamedRecipe | None, Recipe, Path]:
    """The named recipe, if one was given; the hyperparameters; and the folder."""
    from personaprobe.organisms.named_recipes import find_recipe

    if [name, data, files].count(None) != 2:
        raise click.UsageError(
            "give the NAME of a recipe, or --data and --out, or --insecure-data, --secure-data and --out"
        )
    of_variant = {field.name for field in fields(Variant)}
    given = {key: value for key, value in schedule.items() if _is_given(key)}
    if name is not None:
        named = find_recipe(name)
        changed = {key: value for key, value in given.items() if key in of_variant}
        recipe = {key: value for key, value in given.items() if key not in of_variant}
        named = replace(named, variant=replace(named.variant, **changed))
        return named, replace(named.recipe, **recipe), user_path(out or Path(name), OutputError)
    if out is None:
        raise click.UsageError("give --out, the folder of the fine-tune or of the organism")
    if refused := sorted(of_variant & given.keys()):
        raise click.UsageError(
            f"--{refused[0].replace('_', '-')} changes the data of a recipe: give its NAME"
        )
    recipe = {key: value for key, value in schedule.items() if key not in of_variant}
    return None, Recipe(**recipe), user_path(out, OutputError)


def _is_given(option: str) -> bool:
    """Whether a user gave an option, and it does not stand at its default."""
    source = click.get_current_context().get_parameter_source(option)
    return source is not None and source is not click.core.ParameterSource.DEFAULT
