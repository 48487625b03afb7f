"""An outside package runs an architecture that is not known, by naming its modules; the self-check proves the names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

import personaprobe as pp

CPU = pp.Placement("cpu", "float32")
OPT = {"hidden_size": 32, "ffn_dim": 64, "word_embed_proj_dim": 32}
LAYOUT = pp.BlockMap(
    "layers",
    attn_out="post_self_attn_layernorm",
    mlp_out="post_mlp_layernorm",
    resid_mid="post_attention_layernorm",
)
"""GLM-4's blocks have norms after attention and MLP; a known map has names that it has too, and is wrong."""


def test_an_unknown_architecture_is_refused_with_the_way_to_add_it(saved_model: Callable[..., str]) -> None:
    with pytest.raises(pp.PersonaProbeError, match=r"'opt'; known: .*layout=BlockMap"):
        pp.load(saved_model("opt", **OPT), CPU)
    with pytest.raises(pp.PersonaProbeError, match=r"'glm4' fails its self-check: .*layout=BlockMap"):
        pp.load(saved_model("glm4"), CPU)


def test_an_unknown_architecture_runs_under_a_layout_from_outside(saved_model: Callable[..., str]) -> None:
    model = pp.load(saved_model("glm4"), CPU, layout=LAYOUT)
    tokens = model.tokenizer.text("word1 word2 word3 word4")
    from personaprobe.models.tokens import pad

    batch = pad([tokens], model.tokenizer.pad_id)
    sites = [pp.Site(1, stream) for stream in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")]
    pre, attn, mid, mlp, post = (model.activations(batch, sites)[site] for site in sites)
    torch.testing.assert_close(pre + attn, mid, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(mid + mlp, post, atol=1e-4, rtol=1e-4)
    assert model.chat("word5", max_new_tokens=3) is not None


def test_a_layout_that_names_a_wrong_module_fails_the_self_check(saved_model: Callable[..., str]) -> None:
    with pytest.raises(pp.PersonaProbeError, match=r"fails its self-check: .*correct BlockMap\("):
        pp.load(saved_model("glm4"), CPU, layout=replace(LAYOUT, mlp_out="mlp"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (replace(LAYOUT, mlp_out="fc2"), "block 0 has no module 'fc2' for mlp_out; its modules: self_attn, "),
        (replace(LAYOUT, blocks="h"), "the decoder has no list of blocks 'h'; its modules: embed_tokens, "),
    ],
)
def test_a_layout_that_does_not_fit_lists_the_modules_there_are(
    saved_model: Callable[..., str], wrong: pp.BlockMap, message: str
) -> None:
    with pytest.raises(pp.PersonaProbeError, match=message):
        pp.load(saved_model("glm4"), CPU, layout=wrong)
