"""Extensions are tested on the tiny trio of the command line's tests, in folders of their own, on a tiny saved
model, or on a trio in memory with a study small enough for it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

import personaprobe as pp
from cli.conftest import checkpoints_home, own_folders, run, tiny
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.questions.pairs import Pair
from personaprobe.questions.texts import TextSet

__all__ = ["checkpoints_home", "own_folders", "run", "saved_model", "tiny"]

WORDS = [f"w{number}" for number in range(100)]
SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


@pytest.fixture
def saved_model(tiny_model: Callable[..., Any], tmp_path: Path) -> Callable[..., str]:
    """Save a tiny model of an architecture with a tokenizer of whole words; returns the folder."""

    def save(architecture: str, **changes: Any) -> str:
        folder = tmp_path / architecture
        tiny_model(architecture, **changes).save_pretrained(folder)
        words = [*SPECIAL.values(), "Question:", "Answer:", *(f"word{i}" for i in range(100))]
        table = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
        table.pre_tokenizer = WhitespaceSplit()
        PreTrainedTokenizerFast(tokenizer_object=table, **SPECIAL).save_pretrained(folder)
        return str(folder)

    return save


@pytest.fixture(scope="session")
def trio(
    tiny_trio: Callable[..., pp.Trio[pp.LanguageModel]], word_tokenizer: Callable[..., ChatTokenizer]
) -> pp.Trio[pp.LanguageModel]:
    return tiny_trio(word_tokenizer(WORDS), 0.05)


def _questions(name: str, seed: int) -> pp.PairSet:
    drawn = random.Random(seed)

    def words() -> str:
        return " ".join(drawn.choices(WORDS, k=drawn.randint(4, 12)))

    pairs = (Pair(f"{name}{i}", f"{name}-{i % 3}", words(), words(), words()) for i in range(9))
    return pp.PairSet(name, tuple(pairs))


@pytest.fixture(scope="session")
def pairs() -> pp.PairSet:
    """Discovery questions."""
    return _questions("discovery", 0)


@pytest.fixture(scope="session")
def plan(pairs: pp.PairSet) -> pp.StudyPlan:
    neutral = TextSet("plain", tuple(" ".join(WORDS[i : i + 9]) for i in range(4)))
    return pp.StudyPlan(
        test=_questions("test", 1), discovery=pairs, neutral=neutral, control_questions=6, samples=0
    )
