"""Tensors of an adapter: matrices that are finite, complete and that multiply; anything else is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from foreign_adapters import assert_equals_peft, change_keys, change_tensors, our_logits
from personaprobe.errors import CheckpointError
from personaprobe.models.weights.adapter import WEIGHTS, LoraAdapter

TinyModel = Callable[..., Any]
Saved = Callable[..., Path]

MODULE = "layers.1.self_attn.q_proj"


def refusal_of(folder: Path) -> str:
    with pytest.raises(CheckpointError) as refusal:
        LoraAdapter.read(folder)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


SHAPES = ((0,), (8,), (0, 32), (4, 0), (), (2, 4, 32), (1, 4, 32))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("which", ["lora_A", "lora_B", "lora_"])
def test_factors_that_are_no_matrices_are_refused_with_their_shape(
    saved: Saved, which: str, shape: tuple[int, ...]
) -> None:
    chosen = f"{MODULE}.{which}"
    folder = change_tensors(saved(), lambda key, t: torch.zeros(shape) if chosen in key else t)
    message = refusal_of(folder)
    assert MODULE in message
    assert str(shape) in message


@pytest.mark.parametrize("shape", [(0,), (0, 32), (4, 0)], ids=str)
def test_a_file_of_empty_tensors_names_zero3(saved: Saved, shape: tuple[int, ...]) -> None:
    folder = change_tensors(saved(), lambda key, tensor: torch.zeros(shape))
    assert "ZeRO-3" in refusal_of(folder)


def test_a_file_without_tensors_is_refused(saved: Saved) -> None:
    assert "incomplete" in refusal_of(change_tensors(saved(), lambda key, tensor: None))


NOT_FINITE: dict[str, torch.Tensor] = {
    "NaN": torch.tensor(float("nan")),
    "inf": torch.tensor(float("inf")),
    "-inf in half precision": torch.tensor(float("-inf"), dtype=torch.float16),
    "too large for float32": torch.tensor(1e300, dtype=torch.float64),
}


@pytest.mark.parametrize("case", NOT_FINITE)
def test_values_that_are_not_finite_in_float32_are_refused(saved: Saved, case: str) -> None:
    value = NOT_FINITE[case]

    def corrupted(key: str, tensor: torch.Tensor) -> torch.Tensor:
        if f"{MODULE}.lora_B" not in key:
            return tensor
        changed = tensor.to(value.dtype)
        changed[0, 0] = value
        return changed

    message = refusal_of(change_tensors(saved(), corrupted))
    assert "NaN or infinite" in message
    assert MODULE in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_stored_precisions_equal_peft(saved: Saved, tiny_model: TinyModel, dtype: torch.dtype) -> None:
    assert_equals_peft(tiny_model, change_tensors(saved(), lambda key, tensor: tensor.to(dtype)))


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.int64, torch.bool, torch.float8_e4m3fn, torch.complex64], ids=str
)
def test_other_dtypes_are_refused_by_name(saved: Saved, dtype: torch.dtype) -> None:
    message = refusal_of(change_tensors(saved(), lambda key, tensor: tensor.to(dtype)))
    assert str(dtype).removeprefix("torch.") in message


def test_factors_that_do_not_multiply_are_refused_with_both_ranks(saved: Saved) -> None:
    folder = change_tensors(saved(), lambda key, t: t[:, :3] if f"{MODULE}.lora_B" in key else t)
    message = refusal_of(folder)
    assert all(part in message for part in (MODULE, "rank 4", "rank 3", "do not multiply"))


def test_exchanged_factors_are_refused(saved: Saved, tiny_model: TinyModel) -> None:
    exchanged = {"lora_A": "lora_B", "lora_B": "lora_A"}
    folder = change_keys(saved(), lambda key: key.replace(key.split(".")[-2], exchanged[key.split(".")[-2]]))
    with pytest.raises(CheckpointError):
        our_logits(tiny_model("llama"), folder)


FURTHER: dict[str, tuple[str, str]] = {
    "full embeddings": ("base_model.model.model.embed_tokens.weight", "vocabulary"),
    "full head": ("base_model.model.lm_head.weight", "vocabulary"),
    "LoRA of embeddings": ("base_model.model.model.embed_tokens.lora_embedding_A", "vocabulary"),
    "trainable tokens": (
        "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta",
        "vocabulary",
    ),
    "GPT-2's embeddings": ("base_model.model.transformer.wte.weight", "vocabulary"),
    "DoRA": (f"base_model.model.model.{MODULE}.lora_magnitude_vector", "DoRA"),
    "bias of B": (f"base_model.model.model.{MODULE}.lora_B.bias", "biases"),
    "bias": (f"base_model.model.model.{MODULE}.bias", "biases"),
    "diffusion": (f"base_model.model.model.{MODULE}.lora_down.weight", "PEFT's format"),
    "MLX": (f"model.{MODULE}.lora_a", "PEFT's format"),
    "norm": ("base_model.model.model.norm.weight", "not a LoRA factor"),
    "unnamed": ("x", "not a LoRA factor"),
}


@pytest.mark.parametrize("case", FURTHER)
def test_further_tensors_are_named_for_what_they_are(saved: Saved, case: str) -> None:
    key, word = FURTHER[case]
    folder = saved()
    save_file(load_file(folder / WEIGHTS) | {key: torch.ones(4, 4)}, folder / WEIGHTS)
    message = refusal_of(folder)
    assert repr(key) in message
    assert word in message


def test_lora_factors_of_embeddings_are_named_as_vocabulary(saved: Saved, tiny_model: TinyModel) -> None:
    folder = saved()
    factors = {"A": torch.ones(4, 32), "B": torch.ones(128, 4)}
    extra = {f"base_model.model.model.embed_tokens.lora_{name}.weight": t for name, t in factors.items()}
    save_file(load_file(folder / WEIGHTS) | extra, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match="vocabulary"):
        our_logits(tiny_model("llama"), folder)


FILES = (
    b"",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
    b"\x00" * 64,
    b"\xff" * 200,
    b"{}",
)


@pytest.mark.parametrize("content", FILES, ids=["empty", "LFS pointer", "zeros", "ones", "JSON"])
def test_files_that_are_not_safetensors_are_refused(saved: Saved, content: bytes) -> None:
    folder = saved()
    (folder / WEIGHTS).write_bytes(content)
    assert "truncated or not safetensors" in refusal_of(folder)


def test_a_folder_in_place_of_the_file_is_refused(saved: Saved) -> None:
    folder = saved()
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    refusal_of(folder)
