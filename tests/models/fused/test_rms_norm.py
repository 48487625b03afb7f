"""Fused norms replace those that they are equivalent to, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from personaprobe.models.fused.module_patch import patched
from personaprobe.models.fused.rms_norm import FusedRMSNorms

FUSED = {
    "llama": 7,
    "mistral": 7,
    "qwen2": 7,
    "qwen3": 13,
    "gemma2": 0,
    "gemma3_text": 0,
    "phi3": 7,
    "olmo2": 13,
}


@torch.inference_mode()
def test_norms_that_scale_differently_are_left_alone(
    tiny_model: Callable[..., Any], architecture: str
) -> None:
    model = tiny_model(architecture)
    fused = FusedRMSNorms(model)
    assert len(fused) == FUSED.get(architecture, 0)
    ids = torch.arange(9)[None]
    expected = model(input_ids=ids).logits
    with patched(fused.patches()):
        torch.testing.assert_close(model(input_ids=ids).logits, expected)
    assert not any("forward" in vars(module) for module in model.modules())


@torch.inference_mode()
def test_a_norm_class_that_computes_something_else_is_not_fused(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    kind = type(model.model.norm)

    class AnotherRMSNorm(kind):  # type: ignore[misc, valid-type]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1.001 * super().forward(x)  # type: ignore[no-any-return]

    model.model.norm.__class__ = AnotherRMSNorm
    assert len(FusedRMSNorms(model)) == 6
