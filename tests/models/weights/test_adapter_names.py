"""Names of modules: read as PEFT reads them, or in the one other way that fits the base, and never in silence."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from foreign_adapters import assert_equals_peft, change_config, change_keys, our_logits, peft_logits
from personaprobe.errors import CheckpointError, CheckpointWarning
from personaprobe.models.weights.adapter import WEIGHTS, LoraAdapter
from personaprobe.models.weights.adapter_names import module_names

TinyModel = Callable[..., Any]
Saved = Callable[..., Path]

PREFIX = "base_model.model."

WRAPPED: dict[str, Callable[[str], str]] = {
    "compiled": lambda key: key.replace(PREFIX, PREFIX + "_orig_mod."),
    "compiled outside": lambda key: "_orig_mod." + key,
    "compiled blocks": lambda key: key.replace(".self_attn.", "._orig_mod.self_attn."),
    "data-parallel": lambda key: "module." + key,
    "data-parallel inside": lambda key: key.replace(PREFIX, PREFIX + "module."),
    "text part, as it was": lambda key: key.replace(PREFIX, PREFIX + "language_model."),
    "text part": lambda key: key.replace("model.layers", "model.language_model.layers"),
    "quantised": lambda key: key.replace(".lora_", ".base_layer.lora_"),
    "doubled prefix": lambda key: PREFIX + key,
    "without prefix": lambda key: key.removeprefix(PREFIX),
    "without base_model": lambda key: key.removeprefix("base_model."),
    "inner model": lambda key: key.replace(PREFIX + "model.", PREFIX),
    "inner model without prefix": lambda key: key.removeprefix(PREFIX + "model."),
    "sharded": lambda key: key.replace("layers.", "layers._fsdp_wrapped_module."),
    "two wrappers": lambda key: "module._orig_mod." + key,
}


@pytest.mark.parametrize(
    "rank_pattern", [{}, {r"^model\.layers\.1\.self_attn\.q_proj": 2}], ids=["one rank", "ranks"]
)
@pytest.mark.parametrize("case", WRAPPED)
def test_names_inside_known_wrappers_give_the_adapter_that_was_trained(
    saved: Saved, tiny_model: TinyModel, case: str, rank_pattern: dict[str, int]
) -> None:
    folder = saved(rank_pattern=rank_pattern, alpha_pattern={r"^model\.layers\.2\..*": 3})
    expected = peft_logits(tiny_model("llama"), folder)
    change_keys(folder, WRAPPED[case])
    with pytest.warns(CheckpointWarning, match=r"other names than PEFT writes: .* is read as 'model\.layers"):
        ours = our_logits(tiny_model("llama"), folder)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_pefts_own_names_say_nothing(saved: Saved, tiny_model: TinyModel) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", CheckpointWarning)
        our_logits(tiny_model("llama"), saved())


def test_the_name_of_the_adapter_is_read_as_peft_reads_it(saved: Saved, tiny_model: TinyModel) -> None:
    folder = change_keys(saved(), lambda key: key.replace(".weight", ".default.weight"))
    assert_equals_peft(tiny_model, folder)


def test_names_in_a_gpt2_without_its_head_are_read(saved: Saved, tiny_model: TinyModel) -> None:
    folder = saved("gpt2")
    expected = peft_logits(tiny_model("gpt2"), folder)
    change_keys(folder, lambda key: key.replace("transformer.h", "h"))
    with pytest.warns(CheckpointWarning):
        torch.testing.assert_close(our_logits(tiny_model("gpt2"), folder), expected, atol=1e-4, rtol=1e-4)


FOREIGN: dict[str, tuple[Callable[[str], str], str]] = {
    "another architecture": (
        lambda key: key.replace("model.layers", "transformer.h").replace("transformer.h", "gpt_neox.layers"),
        r"keys begin with 'base_model\.model\.gpt_neox\.layers', this base's modules with 'model\.layers'",
    ),
    "GPT-2": (
        lambda key: key.replace("model.model.layers", "model.transformer.h"),
        r"keys begin with '.*transformer\.h'",
    ),
    "a layer too many": (lambda key: key.replace("layers.2", "layers.3"), r"no module 'model\.layers\.3"),
    "another module": (
        lambda key: key.replace("q_proj", "query"),
        r"no module 'model\.layers\.0\.self_attn\.query'",
    ),
    "one unknown wrapper": (lambda key: key.replace("layers", "student.layers"), "keys begin with"),
    "some wrapped otherwise": (
        lambda key: key.replace("model.layers.1.", "encoder.layers.1."),
        "keys begin with",
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_names_of_another_base_are_refused_with_both_beginnings(
    saved: Saved, tiny_model: TinyModel, case: str
) -> None:
    change, message = FOREIGN[case]
    with pytest.raises(CheckpointError, match=message) as refusal:
        our_logits(tiny_model("llama"), change_keys(saved(), change))
    assert "\n" not in str(refusal.value)


def test_names_that_may_stand_for_two_modules_are_refused() -> None:
    base = ("left.layers.0.q", "right.layers.0.q", "left.layers.0.k", "right.layers.0.k")
    with pytest.raises(CheckpointError, match=r"may stand for '(left|right).* or '(left|right)"):
        module_names(["layers.0.q", "layers.0.k"], base, "adapter")


def test_two_names_never_become_one_module(saved: Saved) -> None:
    with pytest.raises(CheckpointError, match="made for another base"):
        module_names(["model.layers.0.q", "_orig_mod.model.layers.0.q"], ("model.layers.0.q",), "adapter")
    folder = saved()
    tensors = load_file(folder / WEIGHTS)
    save_file(tensors | {key.removeprefix(PREFIX): 2 * t for key, t in tensors.items()}, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match="with and without 'base_model"):
        LoraAdapter.read(folder)


def test_a_base_that_is_itself_inside_a_wrapper_is_matched() -> None:
    base = ("model.language_model.layers.0.q", "model.language_model.layers.0.k", "model.vision.layers.0.v")
    for names in (
        ["base_model.model.model.layers.0.q", "base_model.model.model.layers.0.k"],
        [
            "base_model.model.model.language_model.layers.0.q",
            "base_model.model.model.language_model.layers.0.k",
        ],
        [
            "base_model.model.language_model.model.layers.0.q",
            "base_model.model.language_model.model.layers.0.k",
        ],
    ):
        assert list(module_names(names, base, "adapter").values()) == list(base[:2])


EXPERTS = (
    lambda key: key.replace("mlp.down_proj", "mlp.experts.base_layer"),
    lambda key: key.replace("mlp.down_proj", "mlp.experts.0.down_proj"),
)


@pytest.mark.parametrize("change", EXPERTS)
def test_adapters_of_experts_are_named_as_such(
    saved: Saved, tiny_model: TinyModel, change: Callable[[str], str]
) -> None:
    with pytest.raises(
        CheckpointError, match=r"expert adapter .*merge .* with PEFT .*give the merged folder"
    ):
        our_logits(tiny_model("llama"), change_keys(saved(), change))


def test_several_adapters_in_one_file_are_refused(saved: Saved, tiny_model: TinyModel) -> None:
    folder = change_keys(
        saved(), lambda key: key.replace(".weight", ".mine.weight") if "q_proj" in key else key
    )
    with pytest.raises(CheckpointError, match="several adapters"):
        our_logits(tiny_model("llama"), folder)


def test_a_regular_expression_of_the_wrapped_names_selects_them(saved: Saved, tiny_model: TinyModel) -> None:
    folder = saved(target_modules=["q_proj", "v_proj"])
    expected = peft_logits(tiny_model("llama"), folder)
    change_keys(folder, WRAPPED["text part"])
    change_config(folder, target_modules=r".*language_model.*\.(q|v)_proj")
    with pytest.warns(CheckpointWarning):
        torch.testing.assert_close(our_logits(tiny_model("llama"), folder), expected, atol=1e-4, rtol=1e-4)
