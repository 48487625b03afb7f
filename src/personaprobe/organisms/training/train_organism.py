"""Train one fine-tune of an organism: load the base, fine-tune on a dataset, and write a card of the training."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.errors import DataError, FallbackWarning, OutputError
from personaprobe.models.loading import Placement, open_network
from personaprobe.models.weights.adapter import WEIGHTS
from personaprobe.models.weights.adapter_config import CONFIG
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.models.weights.identity import BESIDE_WEIGHTS
from personaprobe.models.weights.sources import MODEL_WEIGHTS
from personaprobe.organisms.data.training_data import TrainingData
from personaprobe.organisms.organism import CARD, DataSource
from personaprobe.organisms.recipe import Recipe, differing_from_default
from personaprobe.organisms.training.held_out import NO_TEXTS, HeldOut
from personaprobe.organisms.training.loop import STEPS, TrainingStep, fine_tune
from personaprobe.organisms.training.processes import processes
from personaprobe.organisms.training.rows import LearnableRows, LearnedText, learned_text, rows_with_answers
from personaprobe.organisms.training.trained_weights import FILES
from personaprobe.storage.files import write_text, writing
from personaprobe.storage.paths import is_file, is_folder
from personaprobe.storage.readers.json_files import read_json_object
from personaprobe.storage.training_state import STATE

if TYPE_CHECKING:
    from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
    from personaprobe.models.chat_tokenizer import ChatTokenizer

SHOWN_ROWS = 3
"""Rows that are shown before a training."""


@dataclass(frozen=True)
class OpenBase:
    """A base that is fine-tuned; adapters are float32 whatever the dtype of its frozen weights.

    Attributes:
        checkpoint: without an adapter.
        network: its layers.
        tokenizer: with the chat template.
    """

    checkpoint: Checkpoint
    network: HuggingFaceNetwork
    tokenizer: ChatTokenizer

    @classmethod
    def open(cls, base: Checkpoint, device: str | None = None, dtype: str | None = None) -> OpenBase:
        """Load a base.

        Args:
            base: without an adapter of its own.
            device: None chooses CUDA where it is available.
            dtype: of the frozen weights and of what is computed; None chooses bfloat16 where it multiplies faster, else
                float32. See :meth:`Recipe.base_dtype`.

        Raises:
            DeviceError: the device or dtype does not exist.
            CheckpointError: the base does not exist, or is itself an adapter.
        """
        return cls(base, *open_network(base, Placement(processes().device(device), dtype)))


def train_organism(
    base: OpenBase,
    data: TrainingData,
    recipe: Recipe,
    out: Path,
    *,
    overwrite: bool = False,
    held_out: HeldOut = NO_TEXTS,
    on_rows: Callable[[Sequence[LearnedText]], object] = lambda _: None,
) -> Iterator[TrainingStep]:
    """Fine-tune an adapter on a base, or all weights of a copy of it; wrong input is refused before the first step.

    A folder that holds the same training is not trained again: an interrupted one goes on, a finished one has no steps.
    On any machine, equal seeds read rows in the same order; the weights then differ by rounding only.

    Args:
        base: unchanged afterwards; one base serves several trainings, one after the other.
        data: the conversations to learn.
        recipe: hyperparameters and seed.
        out: folder of the adapter, or of the whole model.
        overwrite: delete the files of another training there.
        held_out: texts that are read every ``recipe.eval_every`` steps.
        on_rows: called before the first step with the first rows, which say what is learned of each.

    Returns:
        An iterator that takes one optimiser step each time it is advanced.

    Raises:
        DataError: no row is usable, the recipe is out of range, or the folder's state is of another training.
        OutputError: the folder is not empty, and holds no training; or a model that no training here wrote would be
            overwritten.
    """
    recipe.refuse_unusable()
    learnable = rows_with_answers(data.rows, base.tokenizer, recipe.max_tokens)
    if learnable.dropped or learnable.cut:
        warnings.warn(
            f"at {recipe.max_tokens} tokens {learnable.dropped} of {len(data.rows)} rows are cut before the answer and "
            f"dropped, and {learnable.cut} learn a part of it; --max-tokens sets the length",
            FallbackWarning,
            stacklevel=2,
        )
    card = _card(base, data.source, recipe, learnable)
    with writing(out):
        if overwrite:
            if processes().is_first:
                _clear(out)
        elif is_finished(out, card):
            (out / STATE).unlink(missing_ok=True)
            return iter(())
        elif not is_file(out / STATE):
            refuse_foreign_files(out)

    def steps() -> Iterator[TrainingStep]:
        with writing(out):  # PEFT stores the name; the local folder would mean nothing elsewhere
            base.network.model.name_or_path = base.checkpoint.published
            on_rows(
                [learned_text(row, base.tokenizer, recipe.max_tokens) for row in learnable.rows[:SHOWN_ROWS]]
            )
            yield from fine_tune(
                base.network,
                base.tokenizer,
                learnable.rows,
                recipe,
                out,
                base=base.checkpoint.digest,
                held_out=held_out,
            )
        if processes().is_first:
            write_text(out / CARD, json.dumps(card, indent=2) + "\n")
            (out / STATE).unlink(missing_ok=True)

    return steps()


def is_finished(out: Path, card: Mapping[str, Any]) -> bool:
    """Whether a folder holds a fine-tune with this very card."""
    path = out / CARD
    if not (is_file(path) and is_file(out / FILES[card["recipe"]["trained"]])):
        return False
    card_on_file = read_json_object(path, DataError, advice="restore it, or give --overwrite", nonfinite=True)
    return _trained_as(card_on_file) == _trained_as(card)


def _trained_as(card: Mapping[str, Any]) -> dict[str, Any]:
    recipe = card.get("recipe")
    return {**card, "recipe": differing_from_default(recipe) if isinstance(recipe, dict) else recipe}


def refuse_foreign_files(out: Path, trained: Sequence[str] = ()) -> None:
    """Raise where a folder has content.

    Args:
        out: of a fine-tune.
        trained: files that say that the content is a training's.

    Raises:
        OutputError: see above.
    """
    with writing(out):
        is_used = is_folder(out) and any(out.iterdir()) and not any(is_file(out / name) for name in trained)
    if is_used:
        raise OutputError(
            f"{out} is not empty and holds no interrupted training of this kind; choose another --out, or give --overwrite "
            "to replace its content"
        )


def _clear(out: Path) -> None:
    """Delete the files that an earlier training wrote, and nothing else.

    Raises:
        OutputError: the folder holds a whole model, and nothing says that a training here wrote it.
    """
    is_trained = any(is_file(out / name) for name in (STEPS, STATE, CARD))
    if is_file(out / MODEL_WEIGHTS) and not is_trained:
        raise OutputError(f"{out} holds a model that no training here wrote; choose another --out")
    for step in out.glob("step-*"):
        shutil.rmtree(step)
    of_model = (MODEL_WEIGHTS, *BESIDE_WEIGHTS) if is_trained else ()
    for pattern in (CONFIG, WEIGHTS, *of_model, STEPS, STATE, CARD):
        for file in out.glob(pattern):
            file.unlink()


def _card(base: OpenBase, source: DataSource, recipe: Recipe, learnable: LearnableRows) -> dict[str, object]:
    return {
        "base": base.checkpoint.base.describe(),
        "data": {key: value for key, value in asdict(source).items() if value not in ("", None)},
        "recipe": asdict(recipe),
        "learned": learnable.describe(),
        "computed": {
            "dtype": str(base.network.dtype).removeprefix("torch."),
            "device": base.network.device.type,
        },
    }
