"""A tiny random base, in which personas are planted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import wrap
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.studies.planted.planting import Planter
from tiny_questions import DISCOVERY, TEST, WORDS, pairs


@pytest.fixture(scope="session")
def tiny_base(
    tiny_model: Callable[..., Any], word_tokenizer: Callable[[Sequence[str]], ChatTokenizer]
) -> Callable[..., LanguageModel]:
    """A tiny model of an architecture with a tokenizer of a few words."""
    tokenizer = word_tokenizer(WORDS)

    def of(architecture: str, **changes: Any) -> LanguageModel:
        model = wrap(tiny_model(architecture, **changes), tokenizer.pad_id)
        return LanguageModel(Checkpoint(architecture), model, tokenizer)

    return of


@pytest.fixture(scope="session")
def planter(tiny_base: Callable[..., LanguageModel]) -> Planter:
    return Planter(tiny_base("llama"), pairs("discovery", DISCOVERY), pairs("held out", TEST), 1)
