"""Extensions are tested on the tiny trio of the command line's tests, in folders of their own, or on a tiny saved model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from cli.conftest import own_folders, run, shelf, tiny

__all__ = ["own_folders", "run", "saved_model", "shelf", "tiny"]

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
