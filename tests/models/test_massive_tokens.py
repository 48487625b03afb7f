"""Massive tokens are found at load, and named; ordinary models have none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import personaprobe as pp
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.loading import wrap
from personaprobe.models.massive_tokens import MASSIVE, MassiveToken, is_massive
from personaprobe.models.self_check.massive import DOCUMENT, find_massive_tokens


def massive_tokens(
    tiny_model: Callable[..., Any], word_tokenizer: Callable[..., ChatTokenizer], planted: str | None
) -> tuple[MassiveToken, ...]:
    words, model = word_tokenizer(DOCUMENT.split()), tiny_model("llama")
    if planted is not None:
        model.get_input_embeddings().weight[words.hf.convert_tokens_to_ids(planted)] *= 1000
    return find_massive_tokens(wrap(model, words.pad_id), words)


@pytest.mark.parametrize(("planted", "position"), [("Question:", 0), ("largest,", 5)])
def test_a_planted_massive_token_is_found_wherever_it_stands(
    tiny_model: Callable[..., Any], word_tokenizer: Callable[..., ChatTokenizer], planted: str, position: int
) -> None:
    [token] = massive_tokens(tiny_model, word_tokenizer, planted)
    assert (token.token, token.position) == (planted, position)
    assert (token.first_layer, token.last_layer) == (0, 2)
    assert token.ratio > MASSIVE
    assert planted in str(token)


def test_where_no_token_is_massive_none_is_named(
    tiny_model: Callable[..., Any], word_tokenizer: Callable[..., ChatTokenizer]
) -> None:
    assert massive_tokens(tiny_model, word_tokenizer, None) == ()


@given(st.lists(st.floats(1, 19), min_size=3, max_size=20), st.integers(0, 2))
def test_norms_within_a_factor_of_twenty_of_the_median_are_never_massive(
    norms: list[float], place: int
) -> None:
    values = torch.tensor(norms)
    everywhere = torch.ones(len(norms), dtype=torch.bool)
    assert not is_massive(values, everywhere).any()
    values[place] = 1e6
    expected = torch.arange(len(norms)) == place
    assert torch.equal(is_massive(values, everywhere), expected)


@pytest.mark.real
def test_the_demo_models_first_token_is_massive_and_no_other() -> None:
    massive = pp.load("demo").network.massive_tokens
    assert {token.position for token in massive} == {0}
    assert "<|im_start|>" in {token.token for token in massive}
    assert all(token.ratio > 100 for token in massive)
