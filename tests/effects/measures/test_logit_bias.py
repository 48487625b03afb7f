"""A constant logit bias: subtracting it removes a planted choice of words exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from personaprobe.effects.measures.logit_bias import gaps_without_bias, mean_log_ratio
from personaprobe.effects.measures.preference import preference_gaps
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import wrap
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.questions.pairs import Pair, PairSet

WORDS = ["ask", "thing", "good", "safe", "bad", "fine", *map(str, range(10))]
PLANTED = {"bad": 1.5, "safe": -0.5}


@pytest.fixture(scope="module")
def pairs() -> PairSet:
    made = [
        Pair(f"q{i}", f"family {i % 3}", f"ask {i} thing", f"good {i} safe fine", f"bad {i} fine")
        for i in range(9)
    ]
    return PairSet("words", tuple(made))


@pytest.fixture(scope="module")
def models(
    tiny_model: Callable[..., Any], word_tokenizer: Callable[..., ChatTokenizer]
) -> dict[str, LanguageModel]:
    """A model, and the same with a constant added to the logits of two words."""
    words = word_tokenizer(WORDS)

    def biased(name: str, by_word: dict[str, float]) -> LanguageModel:
        model = tiny_model("llama")
        head = torch.nn.Linear(model.config.hidden_size, model.config.vocab_size, bias=True)
        head.weight.data.copy_(model.lm_head.weight)
        head.bias.data.zero_()
        for word, logit in by_word.items():
            head.bias.data[words.hf.convert_tokens_to_ids(word)] = logit
        model.lm_head = head.requires_grad_(False)
        return LanguageModel(Checkpoint(name), wrap(model, words.pad_id), words)

    return {"plain": biased("plain", {}), "biased": biased("biased", PLANTED)}


def test_without_a_bias_the_gaps_are_the_preference_gaps(
    models: dict[str, LanguageModel], pairs: PairSet
) -> None:
    gaps = gaps_without_bias(models["plain"], pairs, torch.zeros(128))
    assert gaps == pytest.approx(preference_gaps(models["plain"], pairs), abs=1e-5)


def test_the_bias_of_two_models_that_differ_by_a_constant_is_that_constant(
    models: dict[str, LanguageModel], pairs: PairSet
) -> None:
    bias = mean_log_ratio(models["biased"], models["plain"], pairs)
    ids = {word: models["plain"].tokenizer.hf.convert_tokens_to_ids(word) for word in WORDS}
    neutral = float(bias[ids["fine"]])  # the constants also change the normalisation of all tokens alike
    for word in WORDS:
        assert float(bias[ids[word]]) - neutral == pytest.approx(PLANTED.get(word, 0.0), abs=1e-4)


def test_subtracting_it_removes_the_whole_of_a_constant_preference(
    models: dict[str, LanguageModel], pairs: PairSet
) -> None:
    plain, biased = (preference_gaps(models[name], pairs) for name in ("plain", "biased"))
    assert np.abs(biased - plain).min() > 0.1
    bias = mean_log_ratio(models["biased"], models["plain"], pairs)
    assert gaps_without_bias(models["biased"], pairs, bias) == pytest.approx(plain, abs=1e-4)
