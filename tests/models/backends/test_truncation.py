"""A truncated model returns the residual stream after its last block, and is restored afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from personaprobe.errors import CheckpointError
from personaprobe.models.backends.truncation import truncated


def test_the_output_is_the_residual_stream_after_the_last_block(tiny_model: Callable[..., Any]) -> None:
    model, ids = tiny_model("llama"), torch.arange(3, 9)[None]
    with torch.inference_mode():
        whole = model(ids, output_hidden_states=True)
        with truncated(model, 1):
            stream = model.get_decoder()(ids).last_hidden_state
        again = model(ids).logits
    assert torch.equal(stream, whole.hidden_states[2])
    assert torch.equal(again, whole.logits)


def test_a_model_with_other_modules_is_refused(tiny_model: Callable[..., Any]) -> None:
    with (
        pytest.raises(CheckpointError, match="has no children layers and norm"),
        truncated(tiny_model("gpt2"), 1),
    ):
        pass
