"""Every architecture that README names loads from a config as its vendor publishes it, with smaller sizes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from personaprobe.errors import FallbackWarning
from personaprobe.models.loading import wrap
from personaprobe.models.tokens import Tokens, pad
from personaprobe.models.weights.pretrained import open_model

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "torch_dtype": "bfloat16",
    "use_cache": True,
}
GEMMA = SIZES | {
    "head_dim": 8,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 8,
    "sliding_window": 4096,
    "cache_implementation": "hybrid",
    "attention_bias": False,
    "rms_norm_eps": 1e-6,
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "Llama 3": SIZES
    | {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "head_dim": 8,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "max_position_embeddings": 131072,
        "eos_token_id": [2, 3],
        "tie_word_embeddings": True,
        "pretraining_tp": 1,
    },
    "Qwen 2": SIZES
    | {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "max_window_layers": 4,
        "sliding_window": 131072,
        "use_sliding_window": False,
        "use_mrope": False,
        "rope_theta": 1000000.0,
    },
    "Qwen 3": SIZES
    | {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "head_dim": 8,
        "max_window_layers": 4,
        "sliding_window": None,
        "use_sliding_window": False,
        "rope_scaling": None,
    },
    "Qwen 3.5": SIZES
    | {
        "model_type": "qwen3_5_text",
        "architectures": ["Qwen3_5ForCausalLM"],
        "head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_conv_kernel_dim": 4,
        "full_attention_interval": 4,
    },
    "Mistral": SIZES
    | {
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "head_dim": 8,
        "sliding_window": 4096,
    },
    "Gemma 2": GEMMA
    | {
        "model_type": "gemma2",
        "architectures": ["Gemma2ForCausalLM"],
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    "Gemma 3": GEMMA
    | {
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "rope_local_base_freq": 10000,
        "sliding_window_pattern": 2,
    },
    "Gemma 3, multimodal": {
        "model_type": "gemma3",
        "architectures": ["Gemma3ForConditionalGeneration"],
        "boi_token_index": 100,
        "eoi_token_index": 101,
        "image_token_index": 102,
        "mm_tokens_per_image": 4,
        "text_config": GEMMA | {"model_type": "gemma3_text"},
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
            "vision_use_head": False,
        },
    },
    "GPT-2": {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": 32,
        "n_layer": 4,
        "n_head": 4,
        "n_ctx": 1024,
        "n_positions": 1024,
        "vocab_size": 128,
        "bos_token_id": 2,
        "eos_token_id": 2,
    },
    "GPT-NeoX": SIZES
    | {
        "model_type": "gpt_neox",
        "architectures": ["GPTNeoXForCausalLM"],
        "rotary_pct": 0.25,
        "rotary_emb_base": 10000,
        "use_parallel_residual": True,
        "hidden_act": "gelu",
    },
    "GPT-J": {
        "model_type": "gptj",
        "architectures": ["GPTJForCausalLM"],
        "n_embd": 32,
        "n_layer": 4,
        "n_head": 4,
        "rotary_dim": 4,
        "vocab_size": 128,
    },
    "GPT-OSS": SIZES
    | {
        "model_type": "gpt_oss",
        "architectures": ["GptOssForCausalLM"],
        "head_dim": 8,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 128,
        "swiglu_limit": 7.0,
    },
    "OLMo 2": SIZES | {"model_type": "olmo2", "architectures": ["Olmo2ForCausalLM"], "rope_theta": 500000},
    "Phi-3": SIZES
    | {
        "model_type": "phi3",
        "architectures": ["Phi3ForCausalLM"],
        "sliding_window": 2047,
        "original_max_position_embeddings": 4096,
        "attention_bias": False,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    },
    "Granite": SIZES
    | {
        "model_type": "granite",
        "architectures": ["GraniteForCausalLM"],
        "residual_multiplier": 1.0,
        "embedding_multiplier": 12.0,
        "attention_multiplier": 0.015625,
        "logits_scaling": 8.0,
    },
    "Cohere": SIZES
    | {"model_type": "cohere2", "architectures": ["Cohere2ForCausalLM"], "logit_scale": 0.25, "head_dim": 8},
    "LFM2": SIZES
    | {
        "model_type": "lfm2",
        "architectures": ["Lfm2ForCausalLM"],
        "conv_L_cache": 3,
        "block_ff_dim": 64,
        "layer_types": ["conv", "conv", "full_attention", "conv"],
    },
}
RECURRENT = {"Qwen 3.5", "LFM2"}
"""Architectures that carry a state from token to token: they are used without packing and without a KV cache."""


@pytest.fixture
def published(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """A checkpoint with a vendor's config and weights of that shape, saved in bfloat16."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = tmp_path / "config.json"
    config.write_text(json.dumps(PUBLISHED[request.param]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path)).requires_grad_(False)
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.15)
    model.bfloat16().save_pretrained(tmp_path)
    config.write_text(json.dumps(PUBLISHED[request.param]))
    return request.param, tmp_path


@pytest.mark.parametrize("published", PUBLISHED, indirect=True)
def test_it_loads_and_computes_what_its_own_class_computes(published: tuple[str, Path]) -> None:
    name, folder = published
    model = open_model(folder, None, torch.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FallbackWarning)
        network = wrap(model, 0)
    fallbacks = [str(warning.message) for warning in caught if warning.category is FallbackWarning]
    assert bool(fallbacks) == (name in RECURRENT)
    rows = [Tokens.prompt(range(3, 12)), Tokens.prompt(range(40, 46))]
    logits = network.logits(pad(rows, 0), {})
    for row, of_row in zip(rows, logits, strict=True):
        own = model(input_ids=torch.tensor([row.ids])).logits[0]
        torch.testing.assert_close(of_row[: len(row)], own, atol=1e-3, rtol=1e-3)


def test_readme_names_no_architecture_that_is_not_tested_here() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    sentence = readme.split("The same edits run on ")[1].split(", and on any other")[0]
    named = {name.strip() for name in sentence.replace("\n", " ").replace(" and ", ", ").split(",")}
    assert named
    assert named <= set(PUBLISHED)
