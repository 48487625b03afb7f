"""A trio of tiny random models that read a tiny language, and questions in it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import wrap
from personaprobe.models.weights.checkpoint import Checkpoint, Trio
from personaprobe.questions.pairs import Pair, PairSet

WORDS = [f"w{number}" for number in range(100)]


@pytest.fixture(scope="session")
def tokenizer(word_tokenizer: Callable[..., ChatTokenizer]) -> ChatTokenizer:
    return word_tokenizer(WORDS)


@pytest.fixture(scope="session")
def trio(tiny_model: Callable[..., Any], tokenizer: ChatTokenizer) -> Trio[LanguageModel]:
    """Base, and two different small changes of its weights."""

    def changed(role: str, seed: int) -> LanguageModel:
        model = tiny_model("llama")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.02 if seed else 0.0)
        return LanguageModel(Checkpoint(f"tiny-{role}"), wrap(model, tokenizer.pad_id), tokenizer)

    return Trio(changed("base", 0), changed("insecure", 1), changed("secure", 2), "tiny")


@pytest.fixture(scope="session")
def model(trio: Trio[LanguageModel]) -> LanguageModel:
    return trio.insecure


@pytest.fixture(scope="session")
def pairs() -> PairSet:
    """Questions of three families, their lengths all mixed."""
    drawn = random.Random(0)

    def say() -> str:
        return " ".join(drawn.choices(WORDS, k=drawn.randint(1, 12)))

    return PairSet("tiny", tuple(Pair(f"q{i}", f"family-{i % 3}", say(), say(), say()) for i in range(7)))
