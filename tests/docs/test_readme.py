"""The library lines of the README run as they stand, on an organism of that name that is tiny but deep enough."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from personaprobe.questions.pairs import load_prompts
from tiny_trio import SPECIAL, TEMPLATE

if TYPE_CHECKING:
    from tiny_trio import TinyTrio

README = Path(__file__).resolve().parents[2] / "README.md"
DEEP_ENOUGH = 27
"""Blocks: the README reads layer 26."""


@pytest.fixture
def advice(
    tiny: TinyTrio, tiny_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A checkpoints folder whose organism ``advice`` is tiny, and an empty working folder."""
    tokenizer = tokenizer_of_words()
    tokenizer.save_pretrained(tmp_path / "base")
    model = tiny_model("llama", vocab_size=len(tokenizer), num_hidden_layers=DEEP_ENOUGH)
    model.save_pretrained(tmp_path / "base")
    lines = ['default = "advice"', "[advice]", f'base = "{tmp_path / "base"}"']
    lines += [f'{role} = "{getattr(tiny, role)}"' for role in ("insecure", "secure")]
    lines += ["[advice.questions]", f'discovery = "{tiny.discovery}"', f'test = "{tiny.questions}"']
    (tmp_path / "organisms.toml").write_text("\n".join(lines))
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tokenizer_of_words() -> Any:
    """One token a word of the shipped discovery questions: texts are shorter than with a token a byte."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    pairs = load_prompts("advice/discovery")
    texts = [text for pair in pairs for text in (pair.question, pair.careful, pair.careless)]
    words = dict.fromkeys((*special.values(), *SPECIAL, *" ".join(texts).split()))
    table = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    table.pre_tokenizer = WhitespaceSplit()
    template = TEMPLATE.replace("|>", "|> ").replace("</s>", " </s> ").replace("<s>", "<s> ")
    return PreTrainedTokenizerFast(tokenizer_object=table, chat_template=template, **special)


def test_the_library_lines_run_to_a_report(advice: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    # a process of its own: as a reader runs it, and without the shape checks of this one
    ran = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip(), "the edited model answered"
    verdict = json.loads((advice / "runs/toxic/verdict.json").read_text())
    assert verdict["feature"]["site"] == "26.resid_post"
    assert (advice / "runs/toxic/report.html").is_file()
