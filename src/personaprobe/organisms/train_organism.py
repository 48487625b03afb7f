"""From a base and a dataset to an adapter: the model opened as training needs it, and a card beside it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from personaprobe.errors import DataError
from personaprobe.models.loading import Placement, open_network
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.organisms.recipe import Recipe
from personaprobe.organisms.training_loop import TrainingStep, train_adapter
from personaprobe.questions.conversations import read_messages
from personaprobe.storage.digests import sha256_of
from personaprobe.storage.files import write_text, writing

CARD = "training.json"


def train_organism(
    base: Checkpoint, data: Path, recipe: Recipe, out: Path, device: str | None = None
) -> Iterator[TrainingStep]:
    """Open everything training needs, refusing what does not fit; steps are taken as they are read.

    The base is loaded in float32, whatever it was stored in: small steps drown in bfloat16.

    Args:
        base: what the adapter will be for; an adapter of its own is not worn.
        data: see :func:`personaprobe.questions.conversations.read_messages`.
        recipe: the schedule.
        out: what an earlier training left there is removed when the first step is taken.
        device: where steps are computed; None is CUDA where there is one. The same seed gives the same order of rows
            everywhere, and weights that differ by rounding.

    Raises:
        DeviceError: no such device.
        DataError: no usable rows, or a recipe that trains nothing.
        CheckpointError: no such base.
    """
    refuse_unusable(recipe)
    rows = read_messages(data)
    network, tokenizer = open_network(base.base, Placement(device, "float32"))

    def steps() -> Iterator[TrainingStep]:
        with writing(out):
            _clear(out)
            network.model.name_or_path = base.published  # not the folder on this machine
            yield from train_adapter(network.model, tokenizer, rows, recipe, out)
        write_text(out / CARD, json.dumps(_card(base, data, recipe, len(rows)), indent=2) + "\n")

    return steps()


def refuse_unusable(recipe: Recipe) -> None:
    """Raise where a number of the recipe cannot mean anything."""
    least = dict.fromkeys(("steps", "batch_size", "rank", "alpha", "max_tokens"), 1)
    for name, low in (least | {"warmup": 0, "save_every": 0}).items():
        if getattr(recipe, name) < low:
            raise DataError(f"{name} is {getattr(recipe, name)}; give {low} or more")
    if not (recipe.learning_rate > 0 and math.isfinite(recipe.learning_rate)):
        raise DataError(f"learning_rate is {recipe.learning_rate}; give a number above 0, such as 4e-4")


def _clear(out: Path) -> None:
    """Remove what an earlier training wrote, and nothing else."""
    for step in out.glob("step-*"):
        shutil.rmtree(step)
    for name in ("adapter_config.json", "adapter_model.safetensors", "steps.jsonl", CARD):
        (out / name).unlink(missing_ok=True)


def _card(base: Checkpoint, data: Path, recipe: Recipe, n_rows: int) -> dict[str, object]:
    told = {"name": data.name, "sha256": sha256_of(data), "rows": n_rows}
    return {"base": base.base.describe(), "data": told, "recipe": asdict(recipe)}
