"""The factors of a LoRA adapter, read from its weights file and checked one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from personaprobe.compute.out_of_memory import refuse_out_of_memory
from personaprobe.errors import CheckpointError
from personaprobe.models.weights.adapter_config import MERGE, shown

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "adapter_model.safetensors"

_KEY = re.compile(r"(?P<module>.+)\.lora_(?P<factor>[AB])(?:\.(?P<adapter>[^.]+))?\.weight")
_VOCABULARY = re.compile(
    r"(?:^|\.)(?:lora_embedding_[AB]|trainable_tokens\w*|embed_tokens|embed_in|embed_out|wte|word_embeddings|lm_head)(?:\.|$)"
)
_OTHER_FORMATS = {
    "lora_magnitude_vector": f"it belongs to a DoRA adapter: {MERGE}",
    ".bias": f"biases were trained too: {MERGE}",
    "lora_down": "it is named as in diffusion models; convert the adapter to PEFT's format",
    "lora_up": "it is named as in diffusion models; convert the adapter to PEFT's format",
    ".lora_a": "it is named as in MLX; convert the adapter to PEFT's format",
    ".lora_b": "it is named as in MLX; convert the adapter to PEFT's format",
}


def read_factors(folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B, float32, by the name that the file gives their module.

    Raises:
        CheckpointError: a file is missing, truncated or pickled, or names the tensor that is no usable LoRA factor.
    """
    path = folder / WEIGHTS
    if not path.exists():
        raise CheckpointError(_missing(folder))
    tensors = _load_safetensors(path)
    if tensors and all(tensor.numel() == 0 for tensor in tensors.values()):
        raise CheckpointError(
            f"{folder}: all tensors are empty, as DeepSpeed ZeRO-3 saves weights that it has not gathered; save the adapter "
            "again with stage3_gather_16bit_weights_on_model_save"
        )
    factors: dict[str, dict[str, Tensor]] = {}
    adapters: dict[str | None, str] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise CheckpointError(f"{folder}: tensor {shown(key)} {_why_no_factor(key)}")
        if "experts" in match["module"].split("."):
            raise CheckpointError(f"{folder} is an expert adapter ({shown(key)}); {MERGE}")
        adapters.setdefault(match["adapter"], key)
        factors.setdefault(match["module"], {})[match["factor"]] = _checked(folder, key, tensor)
    if len(adapters) > 1:
        raise CheckpointError(
            f"{folder} holds several adapters, as {' and '.join(map(shown, adapters.values()))} show; save one of them"
        )
    return _paired(folder, factors)


def _missing(folder: Path) -> str:
    if (folder / "adapter_model.bin").exists():
        return (
            f"{folder} holds a pickled adapter_model.bin, which can run code and is refused; "
            f"save the adapter again as {WEIGHTS}"
        )
    return f"{folder} has no {WEIGHTS}; give a PEFT adapter folder"


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # the library raises many kinds, all of them about this file
        refuse_out_of_memory(error)
        raise CheckpointError(
            f"{path} cannot be read ({shown(error)}); it is truncated or not safetensors"
        ) from error


def _why_no_factor(key: str) -> str:
    for part, reason in _OTHER_FORMATS.items():
        if part in key:
            return f"is not a LoRA factor; {reason}"
    if _VOCABULARY.search(key):
        return (
            "belongs to the vocabulary (embeddings or head), which was resized or trained too; only LoRA factors of linear "
            f"maps are supported: {MERGE}, or save the adapter with save_embedding_layers=False if they are unchanged"
        )
    return f"is not a LoRA factor; {MERGE}"


def _checked(folder: Path, key: str, tensor: Tensor) -> Tensor:
    """A factor as float32."""
    import torch

    where = f"{folder}: tensor {shown(key)}"
    if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        raise CheckpointError(
            f"{where} is {str(tensor.dtype).removeprefix('torch.')}; save the adapter again as float32, bfloat16 or float16"
        )
    if tensor.ndim != 2 or tensor.numel() == 0:
        raise CheckpointError(
            f"{where} has shape {tuple(tensor.shape)}; a factor is a matrix that is not empty: save the adapter again"
        )
    factor = tensor.float()
    if not bool(factor.isfinite().all()):
        raise CheckpointError(f"{where} has NaN or infinite values (in float32); train the adapter again")
    return factor


def _paired(folder: Path, factors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    lone = [module for module, pair in factors.items() if len(pair) != 2]
    if lone or not factors:
        raise CheckpointError(
            f"{folder}: modules without both lora_A and lora_B: {lone[:3] or 'all'}; the file is incomplete"
        )
    for module, pair in factors.items():
        if pair["A"].shape[0] != pair["B"].shape[1]:
            raise CheckpointError(
                f"{folder}: the factors of {module} do not multiply: lora_A has rank {pair['A'].shape[0]} and lora_B has "
                f"rank {pair['B'].shape[1]}; save the adapter again"
            )
    return {module: (pair["A"], pair["B"]) for module, pair in factors.items()}
