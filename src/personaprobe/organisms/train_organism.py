"""Train one adapter of an organism: load the base, fine-tune on a dataset, and write a card of the training."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from personaprobe.errors import DataError, FallbackWarning
from personaprobe.models.loading import Placement, open_network
from personaprobe.models.weights.adapter import WEIGHTS
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.organisms.data.training_data import TrainingData
from personaprobe.organisms.organism import DataSource
from personaprobe.organisms.recipe import Recipe
from personaprobe.organisms.training_loop import (
    LearnableRows,
    TrainingStep,
    rows_with_answers,
    train_adapter,
)
from personaprobe.storage.files import write_text, writing

if TYPE_CHECKING:
    from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
    from personaprobe.models.chat_tokenizer import ChatTokenizer

CARD = "training.json"
"""The card of a training: base, data and recipe, in the adapter's folder."""


@dataclass(frozen=True)
class OpenBase:
    """A base that adapters are trained on, loaded in float32: bfloat16 rounds small updates away.

    Attributes:
        checkpoint: without an adapter.
        network: its layers.
        tokenizer: with the chat template.
    """

    checkpoint: Checkpoint
    network: HuggingFaceNetwork
    tokenizer: ChatTokenizer

    @classmethod
    def open(cls, base: Checkpoint, device: str | None = None) -> OpenBase:
        """Load a base.

        Args:
            base: without an adapter of its own.
            device: None chooses CUDA where it is available.

        Raises:
            DeviceError: the device does not exist.
            CheckpointError: the base does not exist, or is itself an adapter.
        """
        return cls(base, *open_network(base, Placement(device, "float32")))


def train_organism(base: OpenBase, data: TrainingData, recipe: Recipe, out: Path) -> Iterator[TrainingStep]:
    """Fine-tune a LoRA adapter on a base; wrong input is refused before the first step.

    On any device, equal seeds read rows in the same order; the weights then differ by rounding only.

    Args:
        base: unchanged afterwards; one base can train several adapters, one after the other.
        data: the conversations to learn.
        recipe: hyperparameters and seed.
        out: folder of the adapter. The files of an earlier training there are deleted at the first step.

    Returns:
        An iterator that takes one optimiser step each time it is advanced.

    Raises:
        DataError: no row is usable, or the recipe is out of range.
    """
    refuse_unusable(recipe)
    tokenizer, model = base.tokenizer, base.network.model
    learnable = rows_with_answers(data.rows, tokenizer, recipe.max_tokens)
    if learnable.dropped or learnable.cut:
        warnings.warn(
            f"at {recipe.max_tokens} tokens {learnable.dropped} of {len(data.rows)} rows are cut before the answer and "
            f"dropped, and {learnable.cut} learn a part of it; --max-tokens sets the length",
            FallbackWarning,
            stacklevel=2,
        )

    def steps() -> Iterator[TrainingStep]:
        with writing(out):
            _clear(out)
            # PEFT stores it; the local folder would mean nothing elsewhere
            model.name_or_path = base.checkpoint.published
            yield from train_adapter(model, tokenizer, learnable.rows, recipe, out)
        card = _card(base.checkpoint, data.source, recipe, learnable)
        write_text(out / CARD, json.dumps(card, indent=2) + "\n")

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
    base: Checkpoint, source: DataSource, recipe: Recipe, learnable: LearnableRows
) -> dict[str, object]:
    return {
        "base": base.base.describe(),
        "data": {key: value for key, value in asdict(source).items() if value not in ("", None)},
        "recipe": asdict(recipe),
        "learned": learnable.describe(),
    }
