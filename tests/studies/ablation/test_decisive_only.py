"""Arms that no rule of the verdict reads may be left out: the verdict and its evidence stay the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import personaprobe as pp
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from tiny_questions import WORDS, tiny_plan


def test_the_arms_that_decide_give_the_same_verdict_alone(
    tiny_trio: Callable[[ChatTokenizer, float], Trio[LanguageModel]],
    word_tokenizer: Callable[[Sequence[str]], ChatTokenizer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PERSONAPROBE_HOME", str(tmp_path / "home"))
    trio = tiny_trio(word_tokenizer(WORDS), 0.05)
    whole, alone = (
        pp.ablate(trio, "means@1", plan=tiny_plan(decisive_only=only, null_controls=0))
        for only in (False, True)
    )
    assert {arm.kind for arm in alone.arms} == {
        *("base", "insecure", "secure", "ablated", "random", "covariance", "shuffled", "ablated elsewhere")
    }
    assert {arm.kind for arm in whole.arms} > {arm.kind for arm in alone.arms}
    assert alone.doses == ()
    assert alone.verdict == whole.verdict
    assert alone.evidence.to_dict() == whole.evidence.to_dict()
