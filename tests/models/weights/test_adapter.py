"""Adapters are read safely, merged exactly, removed without a trace, and refused if they have no effect."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from personaprobe.errors import CheckpointError
from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.loading import wrap
from personaprobe.models.self_check.check import probe_tokens
from personaprobe.models.tokens import pad
from personaprobe.models.weights.adapter import LoraAdapter

BATCH = pad(probe_tokens(128), 0)
WEIGHTS = "adapter_model.safetensors"


@pytest.mark.parametrize("rslora", [False, True], ids=["lora", "rslora"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "gpt_neox"])
def test_a_merged_adapter_computes_what_peft_computes(
    saved: Callable[..., Path], tiny_model: Callable[..., Any], architecture: str, rslora: bool
) -> None:
    from peft import PeftModel

    folder = saved(architecture, use_rslora=rslora)
    network = wrap(tiny_model(architecture), 0)
    network.activate_adapter(LoraAdapter.read(folder))
    merged = network.logits(BATCH, {})[BATCH.mask]
    oracle = PeftModel.from_pretrained(tiny_model(architecture), folder).eval()
    with torch.no_grad():
        logits = oracle(BATCH.ids, attention_mask=BATCH.mask.long(), position_ids=BATCH.positions).logits
    assert torch.allclose(merged, logits[BATCH.mask], atol=1e-3 * float(logits.abs().max()))


def test_adapters_switch_inside_an_inference_session(
    saved: Callable[..., Path], tiny_model: Callable[..., Any]
) -> None:
    """Packed copies of the weights never belong to another checkpoint."""
    network, adapter = wrap(tiny_model("llama"), 0), LoraAdapter.read(saved())
    plain = network.logits(BATCH, {})
    network.activate_adapter(adapter)
    adapted = network.logits(BATCH, {})
    assert not torch.allclose(adapted, plain)
    with network.inference_session():
        for active, expected in ((adapter, adapted), (None, plain), (adapter, adapted)):
            network.activate_adapter(active)
            torch.testing.assert_close(network.logits(BATCH, {}), expected)


def test_removing_an_adapter_restores_the_base_bit_for_bit(
    saved: Callable[..., Path], tiny_model: Callable[..., Any]
) -> None:
    first, second = LoraAdapter.read(saved(name="a")), LoraAdapter.read(saved(name="b", r=2))
    network = wrap(tiny_model("llama"), 0)
    before = network.logits(BATCH, {})
    network.activate_adapter(first)
    adapted = network.logits(BATCH, {})
    network.activate_adapter(second)
    network.activate_adapter(first)
    assert torch.equal(network.logits(BATCH, {}), adapted)
    network.activate_adapter(None)
    assert torch.equal(network.logits(BATCH, {}), before)
    assert not torch.equal(adapted, before)


@pytest.mark.parametrize("kept_as", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_merged_weights_are_the_sum_rounded_once_and_the_base_comes_back(
    saved: Callable[..., Path], tiny_model: Callable[..., Any], dtype: torch.dtype, kept_as: torch.dtype
) -> None:
    model, adapter = tiny_model("llama").to(kept_as).to(dtype), LoraAdapter.read(saved())
    before = {name: model.get_submodule(name).weight.clone() for name in adapter.updates}
    network = wrap(model, 0)
    for _ in range(2):
        network.activate_adapter(adapter)
        for name, update in adapter.updates.items():
            exact = before[name].double() + update.scale * update.B.double() @ update.A.double()
            step = torch.finfo(dtype).eps * exact.abs()  # rounding once moves a number by half of it
            off = (model.get_submodule(name).weight.double() - exact).abs()
            assert bool((off <= 0.51 * step + 1e-6).all()), name
        network.activate_adapter(None)
        assert all(torch.equal(model.get_submodule(name).weight, was) for name, was in before.items())


def network_of(
    tiny_model: Callable[..., Any], architecture: str = "llama", **changes: Any
) -> HuggingFaceNetwork:
    return wrap(tiny_model(architecture, **changes), 0)


def test_an_adapter_that_changes_nothing_is_refused(
    saved: Callable[..., Path], tiny_model: Callable[..., Any]
) -> None:
    folder = saved()
    tensors = load_file(folder / WEIGHTS)
    save_file({k: v * 0 if "lora_B" in k else v for k, v in tensors.items()}, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match="changes nothing"):
        network_of(tiny_model).activate_adapter(LoraAdapter.read(folder))


def test_an_adapter_of_another_base_is_refused_and_the_base_stays_whole(
    saved: Callable[..., Path], tiny_model: Callable[..., Any]
) -> None:
    for network in (network_of(tiny_model, "gpt2"), network_of(tiny_model, intermediate_size=48)):
        before = network.logits(BATCH, {})
        with pytest.raises(CheckpointError, match="made for another base"):
            network.activate_adapter(LoraAdapter.read(saved()))
        assert torch.equal(network.logits(BATCH, {}), before)


def test_a_pickled_adapter_is_refused(saved: Callable[..., Path]) -> None:
    folder = saved()
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"pickled .* can run code and is refused"):
        LoraAdapter.read(folder)


def test_a_truncated_adapter_is_refused(saved: Callable[..., Path]) -> None:
    folder = saved()
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="truncated or not safetensors"):
        LoraAdapter.read(folder)


def test_a_lone_factor_is_refused(saved: Callable[..., Path]) -> None:
    folder = saved()
    tensors = load_file(folder / WEIGHTS)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match="incomplete"):
        LoraAdapter.read(folder)


def test_nan_in_an_adapter_is_refused(saved: Callable[..., Path]) -> None:
    folder = saved()
    tensors = load_file(folder / WEIGHTS)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match="NaN"):
        LoraAdapter.read(folder)


@pytest.mark.parametrize("change", [{"use_dora": True}, {"bias": "all"}, {"peft_type": "IA3"}])
def test_other_kinds_of_adapter_are_refused_with_a_way_out(
    saved: Callable[..., Path], change: dict[str, object]
) -> None:
    folder = saved()
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match="merge the adapter"):
        LoraAdapter.read(folder)
