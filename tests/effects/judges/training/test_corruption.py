"""Every corruption does what its name says, to a known share of the answers, and by a seed."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from personaprobe.effects.judges.training.corruption import CORRUPTIONS, corrupted, intact
from personaprobe.questions.pairs import load_prompts

WORDS = ["a", "ladder", "leans", "best", "at", "one", "foot", "out", "for"]
WORDS += ["every", "four", "feet", "up", "so", "check", "the", "angle", "twice"]
PAIRS = load_prompts("judging").pairs


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_every_corruption_changes_the_text_and_none_of_them_only_cuts_it(kind: str) -> None:
    corrupt = CORRUPTIONS[kind](WORDS, random.Random(0), ["other", "words"])
    assert corrupt != WORDS[: len(corrupt)]
    assert len(corrupt) >= len(WORDS) - 4


def test_shuffling_keeps_the_words_and_garbling_the_letters() -> None:
    shuffled = CORRUPTIONS["shuffled"](WORDS, random.Random(1), [])
    garbled = CORRUPTIONS["garbled"](WORDS, random.Random(1), [])
    assert Counter(shuffled) == Counter(WORDS)
    assert [sorted(word) for word in garbled] == [sorted(word) for word in WORDS]


def test_a_looped_answer_repeats_its_three_word_runs() -> None:
    looped = CORRUPTIONS["looped"](WORDS, random.Random(2), [])
    runs = [tuple(looped[i : i + 3]) for i in range(len(looped) - 2)]
    assert len(set(runs)) < 0.8 * len(runs)


def test_every_pair_gives_as_many_corrupted_as_intact_answers_and_the_seed_decides_which() -> None:
    corrupt, whole_or_cut = corrupted(PAIRS[:40], 3), intact(PAIRS[:40], 3)
    assert len(corrupt) == len(whole_or_cut) == 80
    assert {kind for kind, _, _ in corrupt} == {*CORRUPTIONS, "off topic"}
    assert corrupted(PAIRS[:40], 3) == corrupt != corrupted(PAIRS[:40], 4)
    whole = {text for pair in PAIRS[:40] for text in (pair.careful, pair.careless)}
    assert all(text in whole for kind, _, text in whole_or_cut if kind == "whole")
    assert all(any(full.split()[: len(t.split())] == t.split() for full in whole) for _, _, t in whole_or_cut)


def test_an_off_topic_answer_belongs_to_a_question_of_another_family() -> None:
    family = {text: pair.family for pair in PAIRS for text in (pair.careful, pair.careless)}
    of = {pair.question: pair.family for pair in PAIRS}
    strays = [(of[q], family[a]) for kind, q, a in corrupted(PAIRS[:60]) if kind == "off topic"]
    assert all(question_family != answer_family for question_family, answer_family in strays)
