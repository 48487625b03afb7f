"""Spoiled answers are spoiled as named, and what is said of a judge is what planted scores make it."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from personaprobe.effects.judges.agreement import (
    agreement,
    by_family,
    calibration_error,
    calibration_floor,
    coherence_auc,
    sharpness_of,
)
from personaprobe.effects.judges.training.build import split
from personaprobe.effects.judges.training.calibration import Reading
from personaprobe.effects.judges.training.corruption import CORRUPTIONS, corrupted, healthy
from personaprobe.effects.judges.training.train import part_of
from personaprobe.errors import DataError
from personaprobe.questions.pairs import Pair, PairSet, load_prompts

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


@pytest.mark.parametrize("n", [100, 2000])
def test_the_floor_is_what_perfectly_calibrated_scores_show(n: int) -> None:
    rng = np.random.default_rng(n)
    scores = rng.random(n)
    shown = [calibration_error(scores, (rng.random(n) < scores).astype(float)) for _ in range(200)]
    assert calibration_floor(scores) == pytest.approx(np.mean(shown), rel=0.05)
    assert calibration_floor(np.round(scores)) == pytest.approx(0.0)  # who is sure and right has no luck


def test_a_large_file_has_a_lower_floor() -> None:
    scores = np.random.default_rng(0).random(4000)
    assert calibration_floor(scores) < 0.5 * calibration_floor(scores[:200])


def planted(shift: float = 0.0, n: int = 300) -> Reading:
    """Two families of answers whose log-odds are right, but for a shift in the second."""
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, 2 * n)
    truth = (rng.random(2 * n) < 1 / (1 + np.exp(-true))).astype(float)
    families = ("ladders",) * n + ("boats",) * n
    return Reading(true + np.repeat([0.0, shift], n), truth, families, ("careful",) * 2 * n)


def test_a_scale_is_examined_on_families_that_it_was_not_fitted_on() -> None:
    fair, shifted = planted(), planted(3.0)
    assert calibration_error(fair.cross_fitted, fair.truth) < 0.06
    assert calibration_error(shifted.cross_fitted, shifted.truth) > 0.2
    slope, offset = fair.scale
    assert (slope, offset) == (pytest.approx(1, abs=0.2), pytest.approx(0, abs=0.3))
    # the second family's truth decides the first one's scores, and not its own
    turned = Reading(fair.along, np.r_[fair.truth[:300], 1 - fair.truth[300:]], fair.families, fair.kinds)
    assert np.corrcoef(turned.cross_fitted[:300], fair.cross_fitted[:300])[0, 1] < -0.9
    assert np.allclose(turned.cross_fitted[300:], fair.cross_fitted[300:])


def test_one_family_alone_cannot_be_examined() -> None:
    reading = planted()
    with pytest.raises(DataError, match="give two or more"):
        _ = Reading(reading.along, reading.truth, ("one",) * 600, reading.kinds).cross_fitted


def test_families_and_kinds_are_told_apart() -> None:
    along = np.array([2.0, 1.0, -1.0, 0.0, -2.0, 1.5])
    truth = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    families = ("a", "a", "b", "a", "a", "b")
    pairs = Reading(along, truth, families, ("careful",) * 3 + ("careless",) * 3)
    assert by_family(pairs) == {"a": {"n": 2, "auc": 1.0}, "b": {"n": 1, "auc": 0.0}}
    told = sharpness_of(pairs, 1 / (1 + np.exp(-along)))
    assert (told.n, told.auc, told.paired) == (3, pytest.approx(6 / 9), pytest.approx(2 / 3))
    spoiled = Reading(along, truth, families, ("whole", "cut", "cut", "looped", "looped", "mixed"))
    assert coherence_auc(spoiled) == {"looped": pytest.approx(5 / 6), "mixed": pytest.approx(1 / 3)}


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
