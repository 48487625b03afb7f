"""All weights of a base in training, without an adapter, and the whole model that is written of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.errors import DataError
from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.training.trainable import TrainableNetwork
from personaprobe.models.weights.sources import MODEL_WEIGHTS
from personaprobe.organisms.recipe import Recipe
from personaprobe.storage.files import flush_to_disk, writing
from personaprobe.storage.leftovers import remove_abandoned, temporary_folder

if TYPE_CHECKING:
    import torch
    from torch import nn

ONE_FILE = 1 << 50
"""Bytes up to which weights are written to one file, whose hash identifies them."""


class AllWeights:
    """All weights of a copy of a base, float32 throughout: they are kept, computed and updated in it.

    Most updates would vanish in bfloat16, and a narrower copy to compute with beside them would take more memory. The base
    stays as it was by construction: nothing has to be restored, however a training ends. Beside the base, the copy, its
    gradients and AdamW's two moments take four times the weights in float32 (4 × 0.54 GB for the demo model). Tied weights
    stay tied. Modules compute as in evaluation, without dropout.
    """

    def __init__(self, network: HuggingFaceNetwork, tokenizer: ChatTokenizer, recipe: Recipe) -> None:
        """Copy a base.

        Args:
            network: the base, float32.
            tokenizer: written beside the weights.
            recipe: of the training.

        Raises:
            DataError: the base was loaded in another dtype, which may have rounded its weights.
        """
        import torch

        if network.dtype != torch.float32:
            raise DataError(
                f"all weights are trained in float32, and the base was loaded in {network.dtype}; load it in float32"
            )
        model, layout = deepcopy((network.model, network.layout))
        self._copy = HuggingFaceNetwork(
            model.requires_grad_(True),
            layout,
            network.pad_id,
            network.stored_dtype,
            switched_off=network.switched_off,
        )
        self._tokenizer = tokenizer
        self.trainable = TrainableNetwork(self._copy, model)
        self.parameters: Mapping[str, nn.Parameter] = dict(sorted(model.named_parameters()))

    def save(self, folder: Path) -> None:
        """Write a whole model that Hugging Face loads, in the dtype that holds the base without loss.

        Bfloat16 rounds small updates away; stored in float32 they would be rounded wherever the model is loaded in bfloat16,
        and the organism would be another one in every dtype.

        Raises:
            OutputError: the folder cannot be written.
        """
        with _in_dtype(self._copy.model, self._copy.stored_dtype):
            save_model(self._copy.model, self._tokenizer, folder)

    def unload(self) -> None:
        """Do nothing: the base has no part in the training, and the copy goes with this object."""


@contextmanager
def _in_dtype(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Hold the float32 weights and buffers of a model in another dtype inside the block; they come back bit for bit."""
    import torch

    tensors = {id(t): t for t in chain(model.parameters(), model.buffers())}.values()
    before = [(tensor, tensor.data) for tensor in tensors if tensor.dtype == torch.float32]
    try:
        for tensor, values in before:
            tensor.data = values.to(dtype)
        yield
    finally:
        for tensor, values in before:
            tensor.data = values


def save_model(model: Any, tokenizer: ChatTokenizer, folder: Path) -> None:
    """Write a Hugging Face model with its configuration, generation defaults, tokenizer and chat template.

    The weights are one file and take their name last, so that no folder looks like a model before it is whole.

    Raises:
        OutputError: the folder cannot be written; weights of an earlier model stay where only the new ones cannot be.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder)
        temporary = temporary_folder(folder / "model")
        try:
            model.save_pretrained(temporary, max_shard_size=ONE_FILE)
            tokenizer.hf.save_pretrained(temporary)
            for file in sorted(temporary.rglob("*"), key=lambda path: (path.name == MODEL_WEIGHTS, path)):
                if file.is_file():
                    _move(file, folder / file.relative_to(temporary))
            flush_to_disk(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _move(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    file.chmod(0o644)
    flush_to_disk(file)
    file.replace(place)
