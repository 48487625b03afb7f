"""Every field of an adapter's configuration does what it does in PEFT, or is refused by its name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foreign_adapters import CONFIG, assert_equals_peft, change_config, change_tensors, our_logits
from personaprobe.errors import CheckpointError
from personaprobe.models.weights.adapter import LoraAdapter
from personaprobe.models.weights.adapter_config import AdapterConfig

TinyModel = Callable[..., Any]
Saved = Callable[..., Path]

MODULE = "model.layers.1.self_attn.q_proj"


@pytest.mark.parametrize("init", [True, False, "gaussian", "orthogonal"])
def test_initialisations_that_leave_the_base_alone_equal_peft(
    saved: Saved, tiny_model: TinyModel, init: bool | str
) -> None:
    assert_equals_peft(tiny_model, saved(init_lora_weights=init))


def test_eva_equals_peft(saved: Saved, tiny_model: TinyModel) -> None:
    config = {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}}
    assert_equals_peft(tiny_model, change_config(saved(), **config))


INITS = (
    "pissa",
    "pissa_niter_4",
    "PiSSA",
    "olora",
    "OLoRA",
    "loftq",
    "corda",
    "lora_ga",
    "mica",
    "new_init",
    "",
    1,
    None,
)


@pytest.mark.parametrize("init", INITS, ids=repr)
def test_initialisations_that_change_the_base_are_refused_with_a_way_out(saved: Saved, init: object) -> None:
    with pytest.raises(
        CheckpointError, match=r"init_lora_weights is .*path_initial_model_for_weight_conversion.*merge"
    ):
        LoraAdapter.read(change_config(saved(), init_lora_weights=init))


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_adapter_converted_as_the_refusal_advises_equals_peft(
    saved: Saved, tiny_model: TinyModel, tmp_path: Path, init: str
) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=init)
    adapted = get_peft_model(tiny_model("llama"), config)
    adapted.peft_config["default"].init_lora_weights = True
    adapted.save_pretrained(tmp_path / "initial")
    adapted.peft_config["default"].init_lora_weights = init
    torch.manual_seed(3)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    adapted.save_pretrained(
        tmp_path / "plain", path_initial_model_for_weight_conversion=str(tmp_path / "initial")
    )
    assert json.loads((tmp_path / "plain" / CONFIG).read_text())["r"] == 8
    assert_equals_peft(tiny_model, tmp_path / "plain")


NOT_PLAIN: dict[str, Any] = {
    "use_dora": True,
    "lora_bias": True,
    "bias": "all",
    "modules_to_save": ["lm_head"],
    "layer_replication": [[0, 2], [1, 3]],
    "alora_invocation_tokens": [1, 2],
    "trainable_token_indices": [5],
    "target_parameters": ["experts.gate_up_proj"],
    "use_bdlora": {},
    "kasa_config": {},
    "velora_config": {"num_groups": 2},
    "monteclora_config": {},
    "arrow_config": {"top_k": 2},
    "use_qalora": True,
    "megatron_config": {"x": 1},
    "peft_type": "LOHA",
    "a_field_of_tomorrow": "on",
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_what_is_more_than_lora_is_refused_by_its_own_name(saved: Saved, name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"{name} is .*merge the adapter") as refusal:
        LoraAdapter.read(change_config(saved(), **{name: NOT_PLAIN[name]}))
    assert "\n" not in str(refusal.value)
    assert all(other not in str(refusal.value) for other in NOT_PLAIN if other not in name)


@pytest.mark.parametrize("kind", ["IA3", "PREFIX_TUNING", "lora", None, 3])
def test_another_kind_of_adapter_is_named(saved: Saved, kind: object) -> None:
    with pytest.raises(CheckpointError, match=rf"peft_type is {kind!r}; 'LORA' is supported"):
        LoraAdapter.read(change_config(saved(), peft_type=kind))
    with pytest.raises(CheckpointError, match="peft_type is missing"):
        LoraAdapter.read(change_config(saved(), "peft_type"))


@pytest.mark.parametrize("neutral", [None, False, "", [], {}, 0], ids=repr)
def test_unknown_fields_that_are_off_are_harmless(
    saved: Saved, tiny_model: TinyModel, neutral: object
) -> None:
    assert_equals_peft(tiny_model, change_config(saved(), a_field_of_tomorrow=neutral))


def test_every_field_of_peft_at_its_default_is_accepted() -> None:
    from peft import LoraConfig

    from personaprobe.models.weights.adapter_config import _refuse_other_kinds

    fields = LoraConfig(base_model_name_or_path="x").to_dict() | {"peft_type": "LORA"}
    _refuse_other_kinds(Path("x"), fields)
    assert len(fields) > 30


def test_no_field_of_peft_can_be_set_in_silence(saved: Saved, tiny_model: TinyModel) -> None:
    """Whatever a field is set to, it is refused, or it is one of those that are known."""
    from peft import LoraConfig

    from personaprobe.models.weights import adapter_config

    known = adapter_config._UNDERSTOOD + adapter_config._HARMLESS
    folder = saved()
    for name in {field.name for field in dataclasses.fields(LoraConfig)} - set(known):
        kept = (folder / CONFIG).read_text()
        with pytest.raises(CheckpointError, match=name):
            LoraAdapter.read(change_config(folder, **{name: "set"}))
        (folder / CONFIG).write_text(kept)


@pytest.mark.parametrize(
    "changes", [{"fan_in_fan_out": True}, {"inference_mode": False}, {"lora_dropout": 0.5}, {"r": 4}]
)
def test_harmless_fields_change_nothing(saved: Saved, tiny_model: TinyModel, changes: dict[str, Any]) -> None:
    assert_equals_peft(tiny_model, change_config(saved(), **changes))


@pytest.mark.parametrize(
    "missing", ["r", "lora_alpha", "use_rslora", "rank_pattern", "bias", "init_lora_weights"]
)
def test_missing_fields_have_pefts_defaults(saved: Saved, tiny_model: TinyModel, missing: str) -> None:
    assert_equals_peft(tiny_model, change_config(saved(r=8, lora_alpha=8), missing))


NAN = float("nan")
NOT_A_RANK = (0, -4, True, 3.7, 4.0, "4", None, [4], {}, NAN)
NOT_AN_ALPHA = (0, -1, True, "8", None, [8], {}, NAN, float("inf"), 10**400)


@pytest.mark.parametrize(
    ("name", "value"),
    [("r", value) for value in NOT_A_RANK]
    + [("lora_alpha", value) for value in NOT_AN_ALPHA]
    + [("rank_pattern", {"q_proj": value}) for value in NOT_A_RANK]
    + [("alpha_pattern", {"q_proj": value}) for value in NOT_AN_ALPHA]
    + [(name, value) for name in ("rank_pattern", "alpha_pattern") for value in (3, "x", [1], {"(": 4})]
    + [("use_rslora", value) for value in ("false", 1, None)]
    + [("target_modules", value) for value in (None, [], "", 3, {"q": 1}, [3], "(")]
    + [("exclude_modules", value) for value in (3, {"q": 1}, [3], "(")]
    + [("layers_to_transform", value) for value in ("1", [True], [1.0], 1.5, {"a": 1})]
    + [("lora_dropout", value) for value in ("0", None, NAN, 2)]
    + [("task_type", value) for value in ("SEQ_CLS", 1, "")],
    ids=repr,
)
def test_values_that_mean_nothing_are_refused_with_their_field(saved: Saved, name: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=rf"{CONFIG}[:,] {name}") as refusal:
        LoraAdapter.read(change_config(saved(), **{name: value}))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize(
    "text", ["[]", "3", "null", '"r"', "{", "", "[" * 100_000, "\x00", '{"r": 4'], ids=lambda t: t[:5]
)
def test_a_configuration_that_is_no_object_is_refused_in_one_line(saved: Saved, text: str) -> None:
    folder = saved()
    (folder / CONFIG).write_text(text)
    with pytest.raises(CheckpointError, match=CONFIG) as refusal:
        LoraAdapter.read(folder)
    assert "\n" not in str(refusal.value)


PATTERNS: dict[str, dict[str, Any]] = {
    "plain key": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 32}},
    "whole name": {"rank_pattern": {MODULE: 2}, "alpha_pattern": {MODULE: 3}},
    "regular expression": {
        "rank_pattern": {r"model\.layers\.[12]\..*_proj": 2},
        "alpha_pattern": {r".*\.0\..*": 5},
    },
    "anchored": {"rank_pattern": {rf"^{MODULE}": 6}, "alpha_pattern": {"^q_proj": 100}},
    "first match counts": {
        "rank_pattern": {"(q|k)_proj": 2, "q_proj": 3},
        "alpha_pattern": {".*": 7, "q_proj": 2},
    },
    "no match": {"rank_pattern": {"proj": 2}, "alpha_pattern": {"nothing": 32}},
    "alternatives": {"rank_pattern": {"q_proj|k_proj": 2}, "alpha_pattern": {"(up|down)_proj": 3}},
}


@pytest.mark.parametrize("rslora", [False, True], ids=["lora", "rslora"])
@pytest.mark.parametrize("case", PATTERNS)
def test_ranks_and_alphas_by_pattern_equal_peft(
    saved: Saved, tiny_model: TinyModel, case: str, rslora: bool
) -> None:
    assert_equals_peft(tiny_model, saved(use_rslora=rslora, **PATTERNS[case]))


def test_patterns_of_a_float_alpha_equal_peft(saved: Saved, tiny_model: TinyModel) -> None:
    assert_equals_peft(tiny_model, change_config(saved(), lora_alpha=2.5, alpha_pattern={"q_proj": 0.5}))


@pytest.mark.parametrize(
    "change", [{"r": 8}, {"r": 2}, {"r": 1, "use_rslora": True}, {"rank_pattern": {"q_proj": 2}}], ids=str
)
def test_a_rank_that_is_not_the_files_is_refused_with_both(
    saved: Saved, tiny_model: TinyModel, change: dict[str, Any]
) -> None:
    expected = change.get("r", 2)
    with pytest.raises(CheckpointError, match=rf"rank of model\.layers\.\d.*_proj is {expected} .* and 4 in"):
        our_logits(tiny_model("llama"), change_config(saved(), **change))


def test_a_rank_that_differs_in_one_layer_is_refused(saved: Saved, tiny_model: TinyModel) -> None:
    import torch

    def padded(key: str, tensor: torch.Tensor) -> torch.Tensor:
        if MODULE not in key:
            return tensor
        return torch.nn.functional.pad(tensor, (0, 0, 0, 4) if "lora_A" in key else (0, 4))

    with pytest.raises(CheckpointError, match=rf"rank of {MODULE} is 4 there and 8 in"):
        our_logits(tiny_model("llama"), change_tensors(saved(), padded))


NARROWER: dict[str, dict[str, Any]] = {
    "target_modules": {"target_modules": ["q_proj"]},
    "pattern": {"target_modules": r".*\.1\..*"},
    "layers_to_transform": {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
    "one layer": {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": 0},
    "layers_pattern": {
        "target_modules": ["q_proj", "v_proj"],
        "layers_to_transform": [0, 1, 2],
        "layers_pattern": ["h"],
    },
    "exclude_modules": {"exclude_modules": ["k_proj"]},
    "excluded pattern": {"exclude_modules": r".*\.mlp\..*"},
    "excluded from all": {"target_modules": "ALL-linear", "exclude_modules": [MODULE]},
    "part of a name": {"target_modules": ["proj"]},
}


@pytest.mark.parametrize("case", NARROWER)
def test_a_file_that_holds_more_than_its_configuration_selects_is_refused(
    saved: Saved, tiny_model: TinyModel, case: str
) -> None:
    folder = saved(
        target_modules=["q_proj", "v_proj"] if "layers_to_transform" in NARROWER[case] else "all-linear"
    )
    with pytest.raises(CheckpointError, match=r"does not select model\.layers\.\d\.\w+\.\w_?\w*proj"):
        our_logits(tiny_model("llama"), change_config(folder, **NARROWER[case]))


SELECTED: dict[str, dict[str, Any]] = {
    "layers": {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
    "one layer": {"target_modules": ["q_proj"], "layers_to_transform": 2},
    "no layers": {"target_modules": ["q_proj"], "layers_to_transform": []},
    "pattern of layers": {
        "target_modules": ["q_proj"],
        "layers_to_transform": [0],
        "layers_pattern": "layers",
    },
    "patterns of layers": {
        "target_modules": ["q_proj"],
        "layers_to_transform": [0],
        "layers_pattern": ["h", "layers"],
    },
    "regular expression": {"target_modules": r".*\.layers\.[02]\..*(q|o)_proj"},
    "whole name": {"target_modules": [MODULE]},
    "excluded": {"target_modules": "all-linear", "exclude_modules": ["k_proj"]},
    "excluded pattern": {"target_modules": ["q_proj", "k_proj"], "exclude_modules": r".*\.0\..*"},
    "head": {"target_modules": ["lm_head", "q_proj"]},
    "whole names in any layer": {"target_modules": ["lm_head", MODULE, "k_proj"], "layers_to_transform": [0]},
}


@pytest.mark.parametrize("case", SELECTED)
def test_selecting_fields_equal_peft(saved: Saved, tiny_model: TinyModel, case: str) -> None:
    assert_equals_peft(tiny_model, saved(**SELECTED[case]))


@pytest.mark.parametrize("changes", [{"layers_to_transform": [0]}, {"layers_pattern": "layers"}], ids=str)
def test_selecting_fields_that_exclude_each_other_are_refused(saved: Saved, changes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="layers_to_transform and layers_pattern need a list"):
        LoraAdapter.read(change_config(saved(), target_modules=".*_proj", **changes))
    with pytest.raises(CheckpointError, match="layers_pattern is set without layers_to_transform"):
        LoraAdapter.read(
            change_config(
                saved(), target_modules=["q_proj"], layers_pattern=["layers"], layers_to_transform=None
            )
        )


@pytest.mark.parametrize("init", [True, "gaussian"])
def test_a_module_without_factors_stays_as_in_the_base_as_in_peft(
    saved: Saved, tiny_model: TinyModel, init: bool | str
) -> None:
    folder = change_tensors(
        saved(init_lora_weights=init), lambda key, tensor: None if MODULE in key else tensor
    )
    assert_equals_peft(tiny_model, folder)


def test_a_module_without_factors_that_peft_would_make_at_random_is_refused(
    saved: Saved, tiny_model: TinyModel
) -> None:
    folder = change_tensors(
        saved(init_lora_weights=False), lambda key, tensor: None if MODULE in key else tensor
    )
    with pytest.raises(CheckpointError, match=rf"selects {MODULE}, which has no factors"):
        our_logits(tiny_model("llama"), folder)


def test_base_and_revision_are_read(saved: Saved) -> None:
    folder = change_config(saved(), base_model_name_or_path="org/base", revision="v2")
    config = AdapterConfig.read(folder)
    assert (config.base, config.revision) == ("org/base", "v2")
