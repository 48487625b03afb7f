"""A tiny model that reads a few words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from personaprobe.models.checkpoint import Checkpoint
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import wrap
from personaprobe.models.tokens import ChatTokenizer

WORDS = "<pad> <s> </s> <unk> Question: Answer: ask thing good safe bad fine the cat sat on mat a longer plain text"
WORDS += " about sea and sky " + " ".join(map(str, range(10)))


@pytest.fixture(scope="session")
def speaking(tiny_model: Callable[..., Any]) -> LanguageModel:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS.split())}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    hf = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>")
    return LanguageModel(Checkpoint("tiny"), wrap(tiny_model("llama"), 0), ChatTokenizer(hf))
