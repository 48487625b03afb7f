"""LoRA adapters as PEFT makes and stores them: added to a network, trained, and written to a folder."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from personaprobe.errors import DataError, shortened
from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.training.trainable import TrainableNetwork
from personaprobe.models.weights.adapter import WEIGHTS
from personaprobe.models.weights.adapter_config import CONFIG
from personaprobe.organisms.recipe import ALL_LINEAR, Recipe
from personaprobe.storage.files import write_atomically, write_text

if TYPE_CHECKING:
    from torch import nn


class AdapterWeights:
    """A freshly initialised adapter on a frozen base, which shares the base's memory."""

    def __init__(self, network: HuggingFaceNetwork, _: ChatTokenizer, recipe: Recipe) -> None:
        """Add the adapter to a base.

        Args:
            network: the base; :meth:`unload` gives it back as it was.
            recipe: seed, rank, scale and modules.

        Raises:
            DataError: the model has no such modules.
        """
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self._adapted = add_lora(
                network.model, recipe.rank, recipe.alpha, recipe.adapted_modules, recipe.adapted_layers
            )
        self.trainable = TrainableNetwork(network, self._adapted)
        named = sorted(self._adapted.named_parameters())
        self.parameters: Mapping[str, nn.Parameter] = {
            name: parameter for name, parameter in named if parameter.requires_grad
        }

    def save(self, folder: Path) -> None:
        """Write the adapter; see :func:`save_adapter`."""
        save_adapter(self._adapted, folder)

    def unload(self) -> None:
        """Remove the adapter from the base."""
        self._adapted.unload()


def add_lora(
    network: Any,
    rank: int,
    alpha: int,
    modules: str | Sequence[str] = ALL_LINEAR,
    layers: Sequence[int] | None = None,
) -> Any:
    """Add a freshly initialised, rank-stabilised LoRA, in float32, to linear layers of a Hugging Face model.

    Args:
        network: from transformers.
        rank, alpha: of the adapter.
        modules: the linear layers that are adapted: :data:`ALL_LINEAR`, a regular expression, or last parts of their
            names, such as ``["down_proj"]``.
        layers: indices of the only blocks that are adapted, where names are given; None for all.

    Returns:
        The PEFT model; the base weights are shared with ``network``, frozen and not copied.

    Raises:
        DataError: the model has no such layers.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        use_rslora=True,
        target_modules=modules if isinstance(modules, str) else list(modules),
        layers_to_transform=None if layers is None else list(layers),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings(
        action="ignore", category=FutureWarning
    ):  # PEFT reads attributes that transformers renamed
        try:
            return get_peft_model(network, config)
        except ValueError as error:
            raise DataError(f"no layer of the model is adapted: {shortened(str(error))}") from error


def linear_layers_of(blocks: Sequence[int]) -> str:
    """The linear layers of some blocks, in models with Llama's module names, as PEFT finds them."""
    return rf".*\.layers\.(?:{'|'.join(map(str, blocks))})\.(?:self_attn|mlp)\.\w+_proj"


def save_adapter(adapted: Any, folder: Path) -> None:
    """Write the LoRA of a PEFT model as a PEFT folder: a JSON configuration and bfloat16 safetensors.

    The configuration is written last, and the weights are removed where that fails: no folder holds a half of an adapter.

    Raises:
        OutputError: the folder cannot be written.
    """
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state: dict[str, torch.Tensor] = get_peft_model_state_dict(
        adapted,
        save_embedding_layers=False,  # "auto" asks the hub for the base
    )
    stored = {
        name: tensor.detach().to(torch.bfloat16).contiguous().cpu() for name, tensor in sorted(state.items())
    }
    write_atomically(folder / WEIGHTS, lambda path: save_file(stored, path, metadata={"format": "pt"}))
    try:
        write_text(folder / CONFIG, _config_text(adapted.peft_config["default"]))
    except BaseException:
        (folder / WEIGHTS).unlink(missing_ok=True)
        raise


def _config_text(config: Any) -> str:
    """The configuration as PEFT writes it, its sets in order: else equal trainings would differ in their bytes."""
    ordered = copy(config)
    ordered.inference_mode = True
    for name, value in vars(config).items():
        if isinstance(value, set):
            setattr(ordered, name, sorted(value))
    with TemporaryDirectory() as folder:
        ordered.save_pretrained(folder)
        return (Path(folder) / CONFIG).read_text(encoding="utf-8")
