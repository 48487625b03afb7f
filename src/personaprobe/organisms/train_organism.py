"""Train one adapter of an organism: load the base, fine-tune on a dataset, and write a card of the training."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from personaprobe.errors import DataError, FallbackWarning
from personaprobe.models.loading import Placement, open_network
from personaprobe.models.weights.adapter import WEIGHTS
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.organisms.recipe import Recipe
from personaprobe.organisms.training_loop import (
    LearnableRows,
    TrainingStep,
    rows_with_answers,
    train_adapter,
)
from personaprobe.questions.conversations import read_messages
from personaprobe.storage.digests import sha256_of
from personaprobe.storage.files import write_text, writing

CARD = "training.json"
"""The card of a training: base, data and recipe, in the adapter's folder."""


def train_organism(
    base: Checkpoint, data: Path, recipe: Recipe, out: Path, device: str | None = None
) -> Iterator[TrainingStep]:
    """Fine-tune a LoRA adapter on a base; wrong input is refused before the first step.

    The base is loaded in float32, since bfloat16 rounds small updates away.

    Args:
        base: the model to adapt, without an adapter of its own.
        data: conversations; see :func:`personaprobe.questions.conversations.read_messages`.
        recipe: hyperparameters and seed.
        out: folder of the adapter. The files of an earlier training there are deleted at the first step.
        device: None chooses CUDA where it is available. On any device, equal seeds read rows in the same order; the
            weights then differ by rounding only.

    Returns:
        An iterator that takes one optimiser step each time it is advanced.

    Raises:
        DeviceError: the device does not exist.
        DataError: the dataset has no usable rows, or the recipe is out of range.
        CheckpointError: the base does not exist, or is itself an adapter.
    """
    refuse_unusable(recipe)
    rows = read_messages(data)
    network, tokenizer = open_network(base, Placement(device, "float32"))
    learnable = rows_with_answers(rows, tokenizer, recipe.max_tokens)
    if learnable.dropped or learnable.cut:
        warnings.warn(
            f"at {recipe.max_tokens} tokens {learnable.dropped} of {len(rows)} rows are cut before the answer and dropped, "
            f"and {learnable.cut} learn a part of it; --max-tokens sets the length",
            FallbackWarning,
            stacklevel=2,
        )

    def steps() -> Iterator[TrainingStep]:
        with writing(out):
            _clear(out)
            network.model.name_or_path = (
                base.published
            )  # PEFT stores it; the local folder would mean nothing elsewhere
            yield from train_adapter(network.model, tokenizer, learnable.rows, recipe, out)
        write_text(out / CARD, json.dumps(_card(base, data, recipe, len(rows), learnable), indent=2) + "\n")

    return steps()


def refuse_unusable(recipe: Recipe) -> None:
    """Raise a :class:`DataError` that names the first field of a recipe that is out of range."""
    minimum = dict.fromkeys(("steps", "batch_size", "rank", "alpha", "max_tokens"), 1)
    for name, lowest in (minimum | {"warmup": 0, "save_every": 0}).items():
        if getattr(recipe, name) < lowest:
            raise DataError(f"{name} is {getattr(recipe, name)}; give {lowest} or more")
    if not (recipe.learning_rate > 0 and math.isfinite(recipe.learning_rate)):
        raise DataError(f"learning_rate is {recipe.learning_rate}; give a number above 0, such as 4e-4")


def _clear(out: Path) -> None:
    """Delete the files that an earlier training wrote, and nothing else."""
    for step in out.glob("step-*"):
        shutil.rmtree(step)
    for name in ("adapter_config.json", WEIGHTS, "steps.jsonl", CARD):
        (out / name).unlink(missing_ok=True)


def _card(
    base: Checkpoint, data: Path, recipe: Recipe, n_rows: int, learnable: LearnableRows
) -> dict[str, object]:
    source = {"name": data.name, "sha256": sha256_of(data), "rows": n_rows}
    return {
        "base": base.base.describe(),
        "data": source,
        "recipe": asdict(recipe),
        "learned": learnable.describe(),
    }
