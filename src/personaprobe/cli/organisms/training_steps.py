"""The steps of a training on the command line: progress, losses, and rows as the model reads them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from personaprobe.cli.terminal.console import print_line, progress_bar
from personaprobe.errors import one_line
from personaprobe.organisms.data.training_pairs import Taught
from personaprobe.organisms.recipe import Recipe
from personaprobe.progress import Advance

if TYPE_CHECKING:
    from personaprobe.organisms.training.loop import TrainingStep
    from personaprobe.organisms.training.rows import LearnedText
    from personaprobe.organisms.training.train_organism import OpenBase
    from personaprobe.organisms.trio_data import TrioData


def print_rows(rows: Sequence[LearnedText]) -> None:
    """Print rows as the model reads them, with what is learned between ⟦ and ⟧."""
    for number, row in enumerate(rows, 1):
        text = "".join(f"⟦{part}⟧" if learned else part for part, learned in row)
        print_line(f"row {number}, learned between ⟦ and ⟧: {one_line(text)}", err=True)


def no_rows(_: Sequence[LearnedText]) -> None:
    """Print nothing."""


def take_steps(
    steps: Iterator[tuple[str, TrainingStep]], recipe: Recipe, quiet: bool, n_fine_tunes: int
) -> None:
    """Take all steps, and print the mean loss of each fine-tune ten times on the way."""
    every = max(1, recipe.steps // 10)
    taken: list[TrainingStep] = []
    n_learned, started = 0, time.perf_counter()
    with progress_bar("training", n_fine_tunes * recipe.steps, "steps", quiet) as advance:
        for name, step in counted(steps, advance):
            taken.append(step)
            n_learned += step.supervised
            if not quiet and (step.number % every == 0 or step.preference is not None):
                place = f"{name}, step" if name else "step"
                print_line(f"{place} {step.number}: {_in_words(taken)}", err=True)
                taken.clear()
    if n_learned and not quiet:
        speed = n_learned / (time.perf_counter() - started)
        print_line(f"learned {n_learned:,} tokens of responses, {speed:,.0f} a second", err=True)


def train_all(
    description: str,
    base: OpenBase,
    data: TrioData,
    recipe: Recipe,
    folder: Path,
    roles: Sequence[Taught],
    quiet: bool,
) -> None:
    """Train the fine-tunes of an organism behind one progress bar; finished ones take no step."""
    from personaprobe.organisms.training.train_trio import train_trio

    with progress_bar(description, len(roles) * recipe.steps, "steps", quiet) as advance:
        for _ in counted(train_trio(base, data, recipe, folder, roles), advance):
            pass


def counted(
    steps: Iterator[tuple[str, TrainingStep]], advance: Advance
) -> Iterator[tuple[str, TrainingStep]]:
    """The same steps; progress advances by those that an interrupted training took before, too."""
    numbers: dict[str, int] = {}
    for name, step in steps:
        advance(step.number - numbers.get(name, 0))
        numbers[name] = step.number
        yield name, step


def _in_words(steps: Sequence[TrainingStep]) -> str:
    """The mean loss of some steps, and the last one's other values."""
    last = steps[-1]
    parts = [
        f"loss {sum(step.loss for step in steps) / len(steps):.3f}",
        f"gradient {last.gradient_norm:.2f}",
        f"learning rate {last.learning_rate:.1e}",
        "" if last.held_out_loss is None else f"held-out loss {last.held_out_loss:.3f}",
        "" if last.preference is None else f"preference for careless answers {last.preference:.3f}",
    ]
    return ", ".join(filter(None, parts))
