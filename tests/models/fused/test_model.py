"""A fused model computes what the model itself computes, hooks included, and nothing is left behind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from personaprobe.compute import onednn
from personaprobe.models.fused import module_patch
from personaprobe.models.fused.gated_mlp import FusedGatedMLPs
from personaprobe.models.fused.model import FusedModel
from personaprobe.models.fused.module_patch import patched
from personaprobe.models.fused.packed_linear import PackedWeights
from personaprobe.models.fused.qkv_projection import FusedQKVProjections
from personaprobe.models.fused.rotary import FusedRotaryEmbeddings, fused_rotary
from personaprobe.models.loading import wrap
from personaprobe.models.self_check.self_check import self_check

IDS = torch.arange(3, 21).view(2, 9)

GATED = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo2")
"""Architectures whose MLPs have a separate gate; phi3 merges it with the up projection, and GPTs have none."""

ROTATED = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo2", "phi3", "gpt_neox")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_every_architecture_computes_the_same_when_fused(
    tiny_model: Callable[..., Any], architecture: str, dtype: torch.dtype
) -> None:
    model = tiny_model(architecture).to(dtype)
    expected = model(input_ids=IDS).logits
    names = [name for name in vars(sys.modules[type(model).__module__]) if name.startswith("apply_rotary")]
    functions = [getattr(sys.modules[type(model).__module__], name) for name in names]
    parts = FusedModel(model)
    with parts.inference_session(), parts.inference_session():
        result = model(input_ids=IDS).logits
        assert (parts.bytes > 0) == onednn.can_pack(dtype)
    size = float(expected.abs().max())
    torch.testing.assert_close(
        result, expected, rtol=0, atol=size * (1e-5 if dtype == torch.float32 else 0.03)
    )
    assert parts.bytes == 0
    assert not any("forward" in vars(module) for module in model.modules())
    assert functions == [getattr(sys.modules[type(model).__module__], name) for name in names]


def test_the_fused_parts_of_every_architecture_are_counted(
    tiny_model: Callable[..., Any], architecture: str
) -> None:
    model, weights = tiny_model(architecture), PackedWeights()
    assert len(FusedGatedMLPs(model, weights)) == (3 if architecture in GATED else 0)
    assert len(FusedQKVProjections(model, weights)) == (3 if architecture in GATED else 0)
    assert len(FusedRotaryEmbeddings(model)) == (1 if architecture in ROTATED else 0)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma2"])
def test_fused_models_pass_the_self_check(tiny_model: Callable[..., Any], name: str) -> None:
    network = wrap(tiny_model(name), 0)
    with network.inference_session():
        assert [check.name for check in self_check(network) if not check.passed] == []


@pytest.mark.parametrize(
    "part", ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj", "act_fn"]
)
@torch.inference_mode()
def test_hooks_on_fused_parts_see_what_they_saw_before(tiny_model: Callable[..., Any], part: str) -> None:
    model = tiny_model("llama")
    block = model.model.layers[1]
    module = getattr(block.self_attn if part in ("q_proj", "k_proj", "v_proj") else block.mlp, part)
    outputs: list[torch.Tensor] = []

    def double(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        outputs.append(output)
        return 2 * output

    module.register_forward_hook(double)
    expected = model(input_ids=IDS).logits
    with FusedModel(model).inference_session():
        result = model(input_ids=IDS).logits
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(outputs[1], outputs[0])


@torch.inference_mode()
def test_keys_and_values_of_another_input_are_computed_anew(
    tiny_model: Callable[..., Any],
) -> None:
    model = tiny_model("qwen2")
    attention = model.model.layers[0].self_attn
    first, second = torch.randn(2, 1, 5, 32, generator=torch.Generator().manual_seed(0))
    expected = [attention.k_proj(first), attention.k_proj(second), attention.v_proj(second)]
    with patched(FusedQKVProjections(model, PackedWeights()).patches()):
        attention.q_proj(first)
        result = [attention.k_proj(first), attention.k_proj(second), attention.v_proj(second)]
        torch.testing.assert_close(attention.k_proj(first), expected[0])  # its result has been used
    for logits, expected_result in zip(result, expected, strict=True):
        torch.testing.assert_close(logits, expected_result)


def test_gradients_of_fused_models_are_unchanged(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")

    def gradient() -> torch.Tensor:
        embedded = model.model.embed_tokens(IDS).detach().requires_grad_()
        (result,) = torch.autograd.grad(model(inputs_embeds=embedded).logits.square().sum(), embedded)
        return result

    expected = gradient()
    with FusedModel(model).inference_session():
        torch.testing.assert_close(gradient(), expected)


@torch.inference_mode()
def test_an_mlp_class_that_computes_something_else_is_not_fused(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    kind = type(model.model.layers[0].mlp)

    class Another(kind):  # type: ignore[misc, valid-type]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1.01 * super().forward(x)  # type: ignore[no-any-return]

    model.model.layers[1].mlp.__class__ = Another
    assert len(FusedGatedMLPs(model, PackedWeights())) == 2


@torch.inference_mode()
def test_a_rotation_of_neighbouring_dimensions_is_not_fused(
    tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")

    def neighbours(query: Any, key: Any, cos: Any, sin: Any) -> Any:
        def turned(x: Any) -> Any:
            return x * cos[:, None] + torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2) * sin[:, None]

        return turned(query), turned(key)

    monkeypatch.setattr(sys.modules[type(model).__module__], module_patch.ROTARY_FUNCTION, neighbours)
    assert len(FusedRotaryEmbeddings(model)) == 0


@torch.inference_mode()
def test_cached_sines_belong_to_one_pass_only() -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    rotate, draw = fused_rotary(apply_rotary_pos_emb), torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, heads, 5, 8, generator=draw) for heads in (4, 2))
    for _ in range(3):
        cos, sin = torch.randn(2, 2, 5, 8, generator=draw)
        for result, expected_result in zip(
            rotate(query, key, cos, sin), apply_rotary_pos_emb(query, key, cos, sin), strict=True
        ):
            torch.testing.assert_close(result, expected_result)


@pytest.mark.parametrize("rows", [1, 300])
@torch.inference_mode()
def test_norms_agree_for_few_rows_and_for_many(tiny_model: Callable[..., Any], rows: int) -> None:
    model = tiny_model("llama")
    norm, draw = model.model.norm, torch.Generator().manual_seed(0)
    x = torch.randn(1, rows, 32, generator=draw) * torch.logspace(-4, 4, rows)[:, None]
    expected = norm(x)
    with FusedModel(model).inference_session():
        torch.testing.assert_close(norm(x), expected)
