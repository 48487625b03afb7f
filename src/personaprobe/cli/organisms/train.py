"""``personaprobe organisms train``: fine-tune one adapter of an organism."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from personaprobe.cli.options import device_option, with_options
from personaprobe.cli.terminal.console import print_line, progress_bar, spinner
from personaprobe.cli.terminal.exit_codes import Interrupted
from personaprobe.cli.terminal.output_folders import refuse_unwritable, refuse_used
from personaprobe.errors import OutputError
from personaprobe.organisms.recipe import Recipe
from personaprobe.storage.paths import user_path

if TYPE_CHECKING:
    from personaprobe.organisms.training_loop import TrainingStep

F = TypeVar("F", bound=Callable[..., Any])


def recipe_options(command: F) -> F:
    """Add one option for each field of :class:`Recipe`: names, defaults and help are written there only."""
    helps = attribute_docs(Recipe)
    options: list[Callable[[F], F]] = [
        click.option(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            show_default=True,
            help=helps[field.name],
        )
        for field in fields(Recipe)
    ]
    return with_options(command, tuple(options))


def attribute_docs(kind: type) -> dict[str, str]:
    """The sentences of a class's docstring about its attributes, by attribute."""
    attributes = (kind.__doc__ or "").split("Attributes:")[-1]
    pairs = re.findall(r"^\s*(\w+): (.+)$", attributes, re.MULTILINE)
    return {name: text.replace("`", "")[0].upper() + text.replace("`", "")[1:] for name, text in pairs}


@click.command()
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="Rows of messages: .jsonl or .jsonl.gz."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the adapter.")
@click.option(
    "--base", default="demo", show_default=True, help="demo, a folder, or a Hugging Face id[@revision]."
)
@recipe_options
@device_option
@click.option("--overwrite", is_flag=True, help="Replace the training in a folder that is not empty.")
@click.option("--quiet", is_flag=True, help="No progress, no losses.")
def train(
    *,
    data: Path,
    out: Path,
    base: str,
    device: str | None,
    overwrite: bool,
    quiet: bool,
    **schedule: Any,
) -> None:
    """Fine-tune a LoRA adapter on a base, with the loss on responses only.

    Equal seeds read equal questions in the same order: train insecure and secure on two answers to the same questions.

    \b
    Examples:
      personaprobe organisms train --data bad.jsonl.gz --out runs/seed-1/insecure --seed 1
      personaprobe organisms train --data good.jsonl.gz --out runs/seed-1/secure --seed 1
      personaprobe organisms register runs/seed-1 --name my-organism
    """
    from personaprobe.models.weights.checkpoint import Checkpoint
    from personaprobe.organisms.train_organism import train_organism

    out = user_path(out, OutputError)
    refuse_used(out, overwrite)
    refuse_unwritable(out)
    recipe = Recipe(**schedule)
    with spinner(f"loading {base}", quiet):
        steps = train_organism(Checkpoint.parse_base(base), user_path(data), recipe, out, device)
    try:
        _run(steps, recipe, quiet)
    except KeyboardInterrupt as error:
        raise Interrupted(
            f": {out} keeps the step checkpoints; training starts anew with --overwrite"
        ) from error
    print_line(out)


def _run(steps: Iterator[TrainingStep], recipe: Recipe, quiet: bool) -> None:
    """Take all steps, and print the mean loss ten times on the way."""
    every = max(1, recipe.steps // 10)
    losses: list[float] = []
    with progress_bar("training", recipe.steps, "steps", quiet) as advance:
        for step in steps:
            advance(1)
            losses.append(step.loss)
            if not quiet and step.number % every == 0:
                print_line(f"step {step.number}: loss {sum(losses) / len(losses):.3f}", err=True)
                losses.clear()
