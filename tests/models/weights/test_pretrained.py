"""A checkpoint is opened whole or not at all: no weight is made at random, no block left out in silence."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from personaprobe.errors import CheckpointError, FallbackWarning
from personaprobe.models.weights.pretrained import open_model, open_tokenizer

WRAPPED: dict[str, dict[str, Any]] = {
    "gemma3": {
        "text_config": {"model_type": "gemma3_text"},
        "vision_config": {"image_size": 28, "patch_size": 14},
    },
    "llava": {"text_config": {"model_type": "llama"}, "vision_config": {"model_type": "clip_vision_model"}},
}


@pytest.fixture
def saved(tiny_model: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    def save(architecture: str = "llama", **changes: Any) -> Path:
        tiny_model(architecture, **changes).save_pretrained(tmp_path / architecture)
        return tmp_path / architecture

    return save


def change_weights(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


@pytest.mark.parametrize("lost", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight", "lm_head.weight"])
def test_a_weight_that_the_file_lacks_is_refused_by_name(saved: Callable[..., Path], lost: str) -> None:
    folder = saved(tie_word_embeddings=False)
    change_weights(folder, lambda weights: {k: v for k, v in weights.items() if k != lost})
    with pytest.raises(CheckpointError, match=rf"lacks 1 of the weights.*{lost}.*random"):
        open_model(folder, None, torch.float32)


def test_a_whole_block_under_other_names_is_refused(saved: Callable[..., Path]) -> None:
    folder = saved()
    change_weights(folder, lambda weights: {k.replace("layers.2", "layers.7"): v for k, v in weights.items()})
    with pytest.raises(CheckpointError, match=r"lacks 9 of the weights"):
        open_model(folder, None, torch.float32)


def test_a_tied_head_is_no_missing_weight(saved: Callable[..., Path]) -> None:
    folder = saved(tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    open_model(folder, None, torch.float32)


def test_blocks_that_the_config_leaves_out_are_refused(saved: Callable[..., Path]) -> None:
    folder = saved()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    with pytest.raises(CheckpointError, match=r"blocks that its config leaves out, such as model\.layers\.2"):
        open_model(folder, None, torch.float32)


def test_other_weights_are_left_out_with_a_warning(saved: Callable[..., Path]) -> None:
    folder = saved()
    change_weights(folder, lambda weights: {**weights, "value_head.weight": torch.ones(1, 32)})
    with pytest.warns(FallbackWarning, match=r"1 weights are no part of this model.*value_head\.weight"):
        open_model(folder, None, torch.float32)


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3_text", "gpt_oss", "llama"])
def test_attention_is_asked_for_where_it_is_supported(saved: Callable[..., Path], architecture: str) -> None:
    experts = {"num_local_experts": 2, "num_experts_per_tok": 1} if architecture == "gpt_oss" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        model = open_model(saved(architecture, **experts), None, torch.float32)
    eager = architecture in ("gemma2", "gpt_oss")
    assert model.config._attn_implementation == ("eager" if eager else "sdpa")


@pytest.mark.parametrize("option", [{"model_max_length": "long"}, {"model_max_length": [5]}])
def test_a_tokenizer_with_an_option_of_another_kind_is_refused_at_load(
    option: dict[str, Any], word_tokenizer: Callable[..., Any], tmp_path: Path
) -> None:
    word_tokenizer(["one", "two"]).hf.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | option))
    with pytest.raises(CheckpointError) as refusal:
        open_tokenizer(tmp_path, None)
    assert "\n" not in str(refusal.value)


def test_a_folder_without_tokenizer_files_is_refused_and_no_empty_vocabulary_is_made(tmp_path: Path) -> None:
    config = {"model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="reads nothing of a sentence"):
        open_tokenizer(tmp_path, None)
