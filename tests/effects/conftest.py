"""A tiny model that reads a few words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import wrap
from personaprobe.models.weights.checkpoint import Checkpoint

WORDS = "ask thing good safe bad fine the cat sat on mat a longer plain text"
WORDS += " about sea and sky " + " ".join(map(str, range(10)))


@pytest.fixture(scope="session")
def speaking(tiny_model: Callable[..., Any], word_tokenizer: Callable[..., ChatTokenizer]) -> LanguageModel:
    words = word_tokenizer(WORDS.split())
    return LanguageModel(Checkpoint("tiny"), wrap(tiny_model("llama"), words.pad_id), words)
