"""Extensions are tested on the tiny trio of the command line's tests, in folders of their own, on a tiny saved
model, or on a trio in memory with a study small enough for it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

import personaprobe as pp
from cli.conftest import checkpoints_home, own_folders, run, tiny
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.loading import wrap
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
    tiny_model: Callable[..., Any], word_tokenizer: Callable[..., ChatTokenizer]
) -> pp.Trio[pp.LanguageModel]:
    """Base, and two different small changes of its weights."""
    tokenizer = word_tokenizer(WORDS)

    def changed(role: str, seed: int) -> pp.LanguageModel:
        model = tiny_model("llama")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.05 if seed else 0.0)
        return pp.LanguageModel(pp.Checkpoint(f"tiny-{role}"), wrap(model, tokenizer.pad_id), tokenizer)

    return pp.Trio(changed("base", 0), changed("insecure", 1), changed("secure", 2), "tiny")


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
