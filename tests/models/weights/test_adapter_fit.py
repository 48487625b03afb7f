"""An adapter on a base changes what PEFT would change there, and nothing else; otherwise it is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foreign_adapters import assert_equals_peft, change_config, change_keys, our_logits
from personaprobe.errors import CheckpointError
from personaprobe.models.loading import wrap
from personaprobe.models.weights.adapter import LoraAdapter

TinyModel = Callable[..., Any]
Saved = Callable[..., Path]

TIED = {"tie_word_embeddings": True}


@pytest.mark.parametrize("targets", [["lm_head"], ["lm_head", "q_proj"]], ids=str)
def test_a_head_that_shares_its_matrix_with_the_embeddings_is_refused_and_nothing_moves(
    saved: Saved, tiny_model: TinyModel, targets: list[str]
) -> None:
    model = tiny_model("llama", **TIED)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    message = r"changes lm_head, which shares its matrix with model\.embed_tokens .* untie"
    with pytest.raises(CheckpointError, match=message):
        our_logits(model, saved(target_modules=targets))
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("tied", [False, True])
def test_a_head_of_its_own_and_other_modules_of_a_tied_base_equal_peft(
    saved: Saved, tiny_model: TinyModel, tied: bool
) -> None:
    def make(architecture: str) -> Any:
        return tiny_model(architecture, tie_word_embeddings=tied)

    assert_equals_peft(make, saved(target_modules=["q_proj"] if tied else ["lm_head", "q_proj"]))


def test_ensure_weight_tying_without_the_head_is_harmless(saved: Saved, tiny_model: TinyModel) -> None:
    folder = change_config(saved(target_modules=["q_proj"]), ensure_weight_tying=True)
    assert_equals_peft(lambda architecture: tiny_model(architecture, **TIED), folder)


@pytest.mark.parametrize("fan_in_fan_out", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_either_order_of_the_matrix_equals_peft(
    saved: Saved, tiny_model: TinyModel, architecture: str, fan_in_fan_out: bool
) -> None:
    assert_equals_peft(
        tiny_model, change_config(saved(architecture), fan_in_fan_out=fan_in_fan_out), architecture
    )


@pytest.mark.parametrize(
    "name", ["model.norm", "model.layers.0", "model.layers.0.mlp", "model.layers.0.input_layernorm"]
)
def test_modules_that_are_no_linear_maps_are_refused(saved: Saved, tiny_model: TinyModel, name: str) -> None:
    folder = saved(target_modules=["model.layers.0.self_attn.q_proj"])
    change_keys(folder, lambda key: key.replace("model.layers.0.self_attn.q_proj", name))
    with pytest.raises(CheckpointError, match=rf"{name} is a Llama\w+ in the base"):
        our_logits(tiny_model("llama"), folder)


def test_readings_of_a_folder_with_another_alpha_are_other_adapters(
    saved: Saved, tiny_model: TinyModel
) -> None:
    """Two models of one network answer as their own adapter does, although the weights files are equal."""
    folder = saved()
    first = LoraAdapter.read(folder)
    again = LoraAdapter.read(folder)
    second = LoraAdapter.read(change_config(folder, lora_alpha=64))
    third = LoraAdapter.read(change_config(folder, lora_alpha=8, alpha_pattern={r".*\.1\..*": 9}))
    assert first == again
    assert len({first, again, second, third}) == 3
    network = wrap(tiny_model("llama"), 0)
    for adapter in (first, second, third, first):
        network.activate_adapter(adapter)
        for name, update in adapter.updates.items():
            base = tiny_model("llama").get_submodule(name).weight
            torch.testing.assert_close(network.model.get_submodule(name).weight, base + update.delta())
