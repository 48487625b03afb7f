"""The self-check sees wrong maps and leaks between texts in every dtype, and switches off what it cannot prove."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from personaprobe.errors import CheckpointError, FallbackWarning
from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.edits.edit import EditPlan
from personaprobe.models.edits.layout import layouts
from personaprobe.models.generation.continuous_batching import generate
from personaprobe.models.generation.sampling import Draw, Sampling
from personaprobe.models.loading import wrap
from personaprobe.models.network import Network
from personaprobe.models.packing import segment_attention
from personaprobe.models.self_check.check import Check, probe_tokens
from personaprobe.models.self_check.self_check import self_check, summary
from personaprobe.models.tokens import Tokens, pad

DTYPES = [torch.float32, torch.bfloat16]
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "num_hidden_layers": 4,
}
HYBRIDS: dict[str, dict[str, Any]] = {
    "qwen3_5_text": LINEAR,
    "lfm2": {"full_attn_idxs": [1], "block_ff_dim": 64},
    "jamba": {
        "num_experts": 2,
        "mamba_d_state": 4,
        "mamba_dt_rank": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
    },
    "recurrent_gemma": {"lru_width": 32, "attention_window_size": 64},
}
"""Architectures whose blocks carry a state from token to token, in place of or beside attention."""


def failed(network: Network) -> list[str]:
    return [check.name for check in self_check(network) if not check.passed]


def network_of(model: Any) -> HuggingFaceNetwork:
    return HuggingFaceNetwork(model, layouts(model)[0], 0, model.dtype)


@pytest.mark.parametrize("multiplier", [0.9, 0.99])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_block_that_scales_what_it_adds_is_seen(
    tiny_model: Callable[..., Any], dtype: torch.dtype, multiplier: float
) -> None:
    model = tiny_model("granite", residual_multiplier=multiplier).to(dtype)
    with pytest.raises(CheckpointError, match="layer 0: the streams add up"):
        wrap(model, 0)


def test_every_block_is_looked_at(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama", num_hidden_layers=6)
    block = model.model.layers[4]
    forward = block.forward
    block.forward = lambda hidden, **given: forward(hidden, **given) * 1.01
    assert [name for name in failed(network_of(model)) if "layer 4" in name]


@pytest.mark.parametrize("leak", [0.003, 0.3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_leak_between_packed_texts_switches_packing_off(
    tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, leak: float
) -> None:
    model = tiny_model("llama").to(dtype)
    attend = segment_attention.attention_per_segment

    def leaking(query: Any, key: Any, value: Any, scaling: Any, row: Any) -> Any:
        attended = attend(query, key, value, scaling, row)
        return attended + leak * value.mean(2, keepdim=True).repeat_interleave(
            query.shape[1] // value.shape[1], 1
        ).transpose(1, 2)

    monkeypatch.setattr(segment_attention, "attention_per_segment", leaking)
    with pytest.warns(FallbackWarning, match="without packing"):
        network = wrap(model, 0)
    assert not network.packs


@pytest.mark.parametrize("name", HYBRIDS)
def test_a_state_that_runs_on_between_texts_is_never_packed(
    tiny_model: Callable[..., Any], name: str
) -> None:
    """Answers, activations and decoding are then those of separate rows."""
    model = tiny_model(name, **HYBRIDS[name])
    with pytest.warns(FallbackWarning, match="without packing"):
        network = wrap(model, 0)
    rows = probe_tokens(network.vocab_size)
    together = network.logits(pad(rows, 0), {})
    for place, row in enumerate(rows):
        alone = model(torch.tensor([row.ids])).logits[0]
        torch.testing.assert_close(together[place, : len(row)], alone, atol=1e-4, rtol=1e-4)
    prompts = [Tokens.prompt(row.ids[:4]) for row in rows]
    greedy = generate(network, [Draw(p) for p in prompts], Sampling(3, 0.0), [EditPlan()] * 2, [])
    for prompt, answer in zip(prompts, greedy, strict=True):
        ids = list(prompt.ids)
        for token in answer:
            assert int(model(torch.tensor([ids])).logits[0, -1].argmax()) == token
            ids.append(token)


def test_an_architecture_that_passes_everything_loses_nothing(
    tiny_model: Callable[..., Any], architecture: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        assert wrap(tiny_model(architecture).bfloat16(), 0).switched_off == frozenset()


def test_code_that_stops_with_an_error_fails_its_check_by_name(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no such kernel")

    model.model.layers[1].mlp.forward = broken
    assert any("RuntimeError: no such kernel" in name for name in failed(network_of(model)))


def test_a_summary_has_every_failed_check_and_the_worst_of_each_law() -> None:
    checks = [
        Check("layer 0: a law", 0.1, True),
        Check("layer 1: a law", 0.2, True),
        Check("other", 0.0, True),
    ]
    assert summary(checks) == checks[1:]
    failing = [Check(f"layer {layer}: a law", layer, layer < 2) for layer in range(4)]
    assert summary(failing) == failing[2:]
