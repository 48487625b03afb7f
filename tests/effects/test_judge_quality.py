"""Spoiled answers are spoiled as named, and what is said of a judge is what planted scores make it."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from personaprobe.effects.corruption import CORRUPTIONS, corrupted, healthy
from personaprobe.effects.judge_making import split
from personaprobe.effects.judge_quality import agreement, calibration_error
from personaprobe.effects.judge_training import part_of
from personaprobe.errors import DataError
from personaprobe.prompts import Pair, PairSet, load_prompts

WORDS = [
    "a",
    "ladder",
    "leans",
    "best",
    "at",
    "one",
    "foot",
    "out",
    "for",
    "every",
    "four",
    "feet",
    "up",
    "so",
    "check",
    "the",
    "angle",
    "twice",
]
PAIRS = load_prompts("judging").pairs


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_every_corruption_changes_the_text_and_none_of_them_only_cuts_it(kind: str) -> None:
    spoiled = CORRUPTIONS[kind](WORDS, random.Random(0), ["other", "words"])
    assert spoiled != WORDS[: len(spoiled)]
    assert len(spoiled) >= len(WORDS) - 4


def test_shuffling_keeps_the_words_and_garbling_the_letters() -> None:
    shuffled = CORRUPTIONS["shuffled"](WORDS, random.Random(1), [])
    garbled = CORRUPTIONS["garbled"](WORDS, random.Random(1), [])
    assert Counter(shuffled) == Counter(WORDS)
    assert [sorted(word) for word in garbled] == [sorted(word) for word in WORDS]


def test_a_loop_says_the_same_three_words_again() -> None:
    looped = CORRUPTIONS["looped"](WORDS, random.Random(2), [])
    runs = [tuple(looped[i : i + 3]) for i in range(len(looped) - 2)]
    assert len(set(runs)) < 0.8 * len(runs)


def test_spoiled_and_sound_answers_are_as_many_of_every_pair_and_seeded() -> None:
    spoiled, sound = corrupted(PAIRS[:40], 3), healthy(PAIRS[:40], 3)
    assert len(spoiled) == len(sound) == 80
    assert {kind for kind, _, _ in spoiled} == {*CORRUPTIONS, "off topic"}
    assert corrupted(PAIRS[:40], 3) == spoiled != corrupted(PAIRS[:40], 4)
    whole = {text for pair in PAIRS[:40] for text in (pair.careful, pair.careless)}
    assert all(text in whole for kind, _, text in sound if kind == "whole")
    assert all(any(full.split()[: len(t.split())] == t.split() for full in whole) for _, _, t in sound)


def test_an_answer_off_topic_is_one_to_a_question_of_another_family() -> None:
    family = {text: pair.family for pair in PAIRS for text in (pair.careful, pair.careless)}
    of = {pair.question: pair.family for pair in PAIRS}
    strays = [(of[q], family[a]) for kind, q, a in corrupted(PAIRS[:60]) if kind == "off topic"]
    assert all(own != other for own, other in strays)


def test_calibrated_scores_have_no_error_and_sure_wrong_ones_have_all() -> None:
    truth = np.array([1.0] * 30 + [0.0] * 10)
    assert calibration_error(np.full(40, 0.75), truth) == pytest.approx(0.0)
    assert calibration_error(1.0 - truth, truth) == pytest.approx(1.0)
    assert calibration_error(np.full(40, 0.25), truth) == pytest.approx(0.5)


def test_agreement_is_that_of_the_scores() -> None:
    theirs = [5.0, 10.0, 50.0, 80.0, 95.0]
    same = agreement(theirs, theirs)
    assert (same.n, same.n_bad, same.auc, same.kappa) == (5, 2, 1.0, 1.0)
    assert same.spearman == pytest.approx(1.0)
    turned = agreement([100 - score for score in theirs], theirs)
    assert turned.auc == 0.0
    assert turned.spearman == pytest.approx(-1.0)


def test_what_cannot_be_said_of_constant_scores_is_nan() -> None:
    found = agreement([90.0, 90.0], [90.0, 95.0])
    assert all(np.isnan(value) for value in (found.auc, found.spearman, found.kappa))


@pytest.mark.parametrize(("own", "theirs"), [([], []), ([1.0], [1.0, 2.0])])
def test_scores_that_do_not_pair_up_are_refused(own: list[float], theirs: list[float]) -> None:
    with pytest.raises(DataError, match="cannot be compared"):
        agreement(own, theirs)


def test_no_family_serves_two_purposes_and_few_pairs_are_refused() -> None:
    parts = split([PairSet("all", PAIRS)])
    families = [{pair.family for pair in pairs} for pairs in parts.values()]
    assert len(set.union(*families)) == sum(map(len, families))
    assert sum(map(len, parts.values())) == len(PAIRS)
    assert all(part_of(pair.family) == part for part, pairs in parts.items() for pair in pairs)
    with pytest.raises(DataError, match="too few"):
        split([PairSet("few", tuple(Pair(str(i), "one", f"{i}?", "a", "b") for i in range(50)))])
