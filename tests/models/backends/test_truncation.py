"""A model that is cut gives the stream behind the last block left, and is whole again afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from personaprobe.errors import CheckpointError
from personaprobe.models.backends.truncation import cut


def test_what_comes_out_is_the_stream_behind_the_last_block(tiny_model: Callable[..., Any]) -> None:
    model, ids = tiny_model("llama"), torch.arange(3, 9)[None]
    with torch.inference_mode():
        whole = model(ids, output_hidden_states=True)
        with cut(model, 1):
            found = model.get_decoder()(ids).last_hidden_state
        again = model(ids).logits
    assert torch.equal(found, whole.hidden_states[2])
    assert torch.equal(again, whole.logits)


def test_a_model_of_other_parts_is_refused(tiny_model: Callable[..., Any]) -> None:
    with pytest.raises(CheckpointError, match="has no children layers and norm"), cut(tiny_model("gpt2"), 1):
        pass
