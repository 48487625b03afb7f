"""The weights that a training changes: those of an adapter on a frozen base, or all weights of a copy of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.training.trainable import TrainableNetwork
from personaprobe.models.weights.adapter import WEIGHTS
from personaprobe.models.weights.sources import MODEL_WEIGHTS
from personaprobe.organisms.recipe import Recipe
from personaprobe.organisms.training.all_weights import AllWeights
from personaprobe.organisms.training.lora import AdapterWeights

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class TrainedWeights(Protocol):
    """Weights in training.

    Attributes:
        parameters: float32, by name, in a fixed order.
        trainable: computes the loss under them.
    """

    parameters: Mapping[str, nn.Parameter]
    trainable: TrainableNetwork

    def save(self, folder: Path) -> None:
        """Write a checkpoint that :meth:`personaprobe.models.weights.checkpoint.Checkpoint.parse` reads."""
        ...

    def unload(self) -> None:
        """Give the base back as it was."""
        ...


Kind = Callable[[HuggingFaceNetwork, ChatTokenizer, Recipe], TrainedWeights]

KINDS: Mapping[str, Kind] = {"adapter": AdapterWeights, "all": AllWeights}
"""By :attr:`Recipe.trained <personaprobe.organisms.recipe.Recipe.trained>`."""

FILES: Mapping[str, str] = {"adapter": WEIGHTS, "all": MODEL_WEIGHTS}
"""Names of the files that hold the weights of a finished training, by :attr:`Recipe.trained`."""
