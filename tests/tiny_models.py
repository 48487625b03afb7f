"""Tiny random models of every architecture, the same weights every time."""

from __future__ import annotations

from typing import Any

import torch

D_MODEL, N_LAYERS, VOCAB = 32, 3, 128

SHAPE = {
    "hidden_size": D_MODEL,
    "intermediate_size": 64,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "vocab_size": VOCAB,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = SHAPE | {"num_key_value_heads": 2, "head_dim": 8}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "mistral": GROUPED,
    "qwen2": GROUPED,
    "qwen3": GROUPED,
    "gemma2": GROUPED | {"query_pre_attn_scalar": 8, "final_logit_softcapping": 3.0},
    "gemma3_text": GROUPED | {"query_pre_attn_scalar": 8},
    "gpt2": {"n_embd": D_MODEL, "n_layer": N_LAYERS, "n_head": 4, "vocab_size": VOCAB}
    | {"bos_token_id": 1, "eos_token_id": 2},
    "gpt_neox": SHAPE,
    "olmo2": GROUPED,
    "phi3": GROUPED,
}


def tiny_model(architecture: str, **changes: Any) -> Any:
    """Make a fresh Hugging Face model of a named architecture.

    Args:
        architecture: a ``model_type``.
        changes: fields of its configuration.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(architecture, **(CONFIGS.get(architecture, GROUPED) | changes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
        for parameter in model.parameters():
            # as initialised, attention is flat, biases 0 and norms 1: mistakes there would not show
            parameter.add_(torch.randn_like(parameter), alpha=0.15)
    return model
