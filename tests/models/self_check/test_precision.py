"""A model runs in float32 for a while, and comes back bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch

from personaprobe.models.self_check.precision import fits_in_float32, in_float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_weights_and_buffers_come_back_bit_for_bit(
    tiny_model: Callable[..., Any], dtype: torch.dtype
) -> None:
    model = tiny_model("llama").to(dtype)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with suppress(KeyboardInterrupt), in_float32(model):
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        raise KeyboardInterrupt
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_tied_weights_stay_tied(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama", tie_word_embeddings=True).bfloat16()
    with in_float32(model):
        assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_a_model_that_needs_more_than_the_free_memory_does_not_fit(
    tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    assert fits_in_float32(model.bfloat16())
    monkeypatch.setattr("personaprobe.models.self_check.precision.free_memory", lambda _: 1000)
    assert not fits_in_float32(model)
    assert fits_in_float32(model.float())
