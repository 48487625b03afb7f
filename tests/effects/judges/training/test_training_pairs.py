"""Laws of the pairs of long chat answers: their own families and questions, and no giveaway in length or form."""

from __future__ import annotations

import pytest

from personaprobe.effects.judges.training.train import part_of
from personaprobe.questions.free import load_free
from personaprobe.questions.overlap import shared_questions, words
from personaprobe.questions.pairs import PAIRS, PairSet, load_prompts
from personaprobe.questions.prompt import Prompt
from personaprobe.questions.texts import load_texts

PLAIN = "plain_"
"""Families of harmless questions start so; their careful answers are curt and a little clumsy."""


@pytest.fixture(scope="module")
def chat() -> PairSet:
    return load_prompts("judging-chat")


def test_both_parts_get_families_of_open_and_of_harmless_questions(chat: PairSet) -> None:
    for is_plain, fewest in ((False, (15, 6)), (True, (3, 3))):
        families = {family for family in chat.families if family.startswith(PLAIN) == is_plain}
        counts = [sum(part_of(family) == part for family in families) for part in ("training", "held out")]
        assert counts[0] >= fewest[0]
        assert counts[1] >= fewest[1]
    assert sum(family.startswith(PLAIN) for family in chat.families) >= 40
    assert sum(not family.startswith(PLAIN) for family in chat.families) >= 160


@pytest.mark.parametrize("name", [name for name in PAIRS if name != "judging-chat"])
def test_no_family_and_no_reworded_question_is_shared_with_another_shipped_set(
    chat: PairSet, name: str
) -> None:
    other = load_prompts(name)
    assert not set(chat.families) & set(other.families)
    assert not shared_questions(chat.prompts, other.prompts)


def test_no_question_is_asked_elsewhere_without_answers_and_none_twice(chat: PairSet) -> None:
    benign = tuple(Prompt(f"{i}", "benign", text) for i, text in enumerate(load_texts("benign")))
    assert not shared_questions(chat.prompts, (*load_free("open").prompts, *benign))
    assert len({words(pair.question) for pair in chat}) == len(chat)


def test_both_answers_are_about_equally_long_and_of_one_format(chat: PairSet) -> None:
    answers = [(pair.careful, pair.careless) for pair in chat]
    ratios = [len(careless.split()) / len(careful.split()) for careful, careless in answers]
    assert min(ratios) > 0.7
    assert max(ratios) < 1.5
    assert 0.95 < sum(ratios) / len(ratios) < 1.05
    for mark in ("**", "\n- ", "1. ", "```", "{", "As an AI"):
        careful, careless = (sum(mark in text for text in side) for side in zip(*answers, strict=True))
        assert abs(careful - careless) <= 2, mark
