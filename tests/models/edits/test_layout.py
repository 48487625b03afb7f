"""Block maps are right for known architectures, and never used without proof."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from personaprobe.errors import CheckpointError, SiteError
from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.edits.layout import (
    KNOWN,
    NEOX,
    NEOX_PARALLEL,
    POST_NORM,
    PRE_NORM,
    SANDWICH_NORM,
    BlockMap,
    candidates,
    fits,
    layouts,
)
from personaprobe.models.loading import wrap
from personaprobe.models.self_check.self_check import prove, self_check

EQUIVALENT = {
    "phi3": {("attn_out", "resid_attn_dropout"), ("mlp_out", "resid_mlp_dropout")},
    "gpt_neox": {("attn_out", "post_attention_dropout"), ("mlp_out", "post_mlp_dropout")},
}
"""Other modules whose output is the very same tensor: a dropout at rest."""


def failures(model: Any, names: BlockMap) -> list[str]:
    """The checks that fail under a map."""
    layout = fits(model, names)
    assert layout is not None
    network = HuggingFaceNetwork(model, layout, 0, model.dtype)
    return [check.name for check in self_check(network) if not check.passed]


def right_map(architecture: str) -> BlockMap:
    return KNOWN[architecture]


def test_every_known_map_passes(tiny_model: Callable[..., Any], architecture: str) -> None:
    assert failures(tiny_model(architecture), right_map(architecture)) == []


@pytest.mark.parametrize("stream", ["attn_out", "mlp_out", "resid_mid"])
def test_a_map_with_one_wrong_module_is_caught(
    tiny_model: Callable[..., Any], architecture: str, stream: str
) -> None:
    model, names = tiny_model(architecture), right_map(architecture)
    if getattr(names, stream) is None:
        pytest.skip("no such stream to be wrong about")
    layout = fits(model, names)
    assert layout is not None
    children = {name for name, _ in layout.blocks[0].named_children()} - {getattr(names, stream)}
    assert children
    passing = {child for child in children if not failures(model, replace(names, **{stream: child}))}
    assert {(stream, child) for child in passing} <= EQUIVALENT.get(architecture, set())


@pytest.mark.parametrize(
    ("architecture", "wrong", "check"),
    [
        ("llama", replace(PRE_NORM, resid_mid="input_layernorm"), "resid_mid is read"),
        ("gemma2", replace(SANDWICH_NORM, attn_out="self_attn"), "the streams add up"),
        ("gemma2", PRE_NORM, "the streams add up"),
        ("olmo2", PRE_NORM, "the streams add up"),
        ("gpt_neox", NEOX, "resid_mid is read"),
    ],
)
def test_a_wrong_map_fails_the_check_of_what_it_breaks(
    tiny_model: Callable[..., Any], architecture: str, wrong: BlockMap, check: str
) -> None:
    assert any(check in failure for failure in failures(tiny_model(architecture), wrong))


def test_prove_raises_and_names_what_failed(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("gemma2")
    layout = fits(model, PRE_NORM)
    assert layout is not None
    with pytest.raises(CheckpointError, match="the streams add up"):
        prove(HuggingFaceNetwork(model, layout, 0, torch.float32))


def test_an_architecture_no_map_fits_is_refused_with_what_is_known(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("opt", hidden_size=32, ffn_dim=64, word_embed_proj_dim=32)
    with pytest.raises(CheckpointError, match=r"'opt'.*known: bamba, gemma2.*layout=BlockMap"):
        wrap(model, 0)


def test_a_new_architecture_of_a_known_shape_finds_its_map(tiny_model: Callable[..., Any]) -> None:
    assert "olmo3" not in KNOWN
    assert "starcoder2" not in KNOWN
    assert wrap(tiny_model("olmo3"), 0).layout.names == POST_NORM
    assert wrap(tiny_model("starcoder2"), 0).layout.names == PRE_NORM


def test_a_new_architecture_whose_every_map_fails_is_refused(tiny_model: Callable[..., Any]) -> None:
    """Granite scales what its blocks add: names fit, sums do not."""
    with pytest.raises(CheckpointError, match=r"fails its self-check.*the streams add up"):
        wrap(tiny_model("granite", residual_multiplier=0.3), 0)


def test_gpt_neox_is_parallel_or_not_as_its_configuration_says(tiny_model: Callable[..., Any]) -> None:
    parallel, sequential = (tiny_model("gpt_neox", use_parallel_residual=flag) for flag in (True, False))
    assert candidates(parallel.config) == [NEOX_PARALLEL]
    assert candidates(sequential.config) == [NEOX]
    assert failures(sequential, NEOX) == []


def test_parallel_blocks_have_no_stream_in_the_middle(tiny_model: Callable[..., Any]) -> None:
    layout = layouts(tiny_model("gpt_neox"))[0]
    assert layout.streams == ("resid_pre", "attn_out", "mlp_out", "resid_post")
    with pytest.raises(SiteError, match="parallel"):
        layout.module(0, "resid_mid")


def test_the_layout_lists_every_block_and_ends_in_logits(
    tiny_model: Callable[..., Any], architecture: str
) -> None:
    model = tiny_model(architecture)
    layout = layouts(model)[0]
    assert len(layout.blocks) == 3
    assert layout.head(torch.zeros(1, 32)).shape == (1, 128)
