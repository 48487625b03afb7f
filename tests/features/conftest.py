"""A trio of tiny random models that read a tiny language, and questions in it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import Pair, PairSet

WORDS = [f"w{number}" for number in range(100)]


@pytest.fixture(scope="session")
def tokenizer(word_tokenizer: Callable[..., ChatTokenizer]) -> ChatTokenizer:
    return word_tokenizer(WORDS)


@pytest.fixture(scope="session")
def trio(tiny_trio: Callable[..., Trio[LanguageModel]], tokenizer: ChatTokenizer) -> Trio[LanguageModel]:
    return tiny_trio(tokenizer, 0.02)


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
