"""The judge's blind examination: open questions with chat-like answers that no judge was trained, scaled or chosen on."""

from __future__ import annotations

from collections import Counter

import pytest

from personaprobe.questions.bag_of_words import bag_of_words
from personaprobe.questions.free import load_free
from personaprobe.questions.overlap import words
from personaprobe.questions.pairs import PAIRS, PairSet, load_prompts
from personaprobe.questions.prompt import Prompt

BLIND = "judging-blind"


@pytest.fixture(scope="module")
def blind() -> PairSet:
    return load_prompts(BLIND)


@pytest.fixture(scope="module")
def others() -> tuple[Prompt, ...]:
    pairs = [prompt for name in PAIRS if name != BLIND for prompt in load_prompts(name).prompts]
    return (*pairs, *load_free("open").prompts)


def test_there_are_at_least_ninety_pairs_in_fifteen_families(blind: PairSet) -> None:
    assert len(blind) >= 90
    assert len(set(blind.families)) >= 15
    assert min(Counter(blind.families).values()) >= 6
    assert len({pair.id for pair in blind}) == len({pair.question for pair in blind}) == len(blind)


def test_it_shares_no_family_with_any_other_set(blind: PairSet, others: tuple[Prompt, ...]) -> None:
    assert not set(blind.families) & {ask.family for ask in others}


def test_no_question_is_nearly_one_of_its_own_set_or_of_another(
    blind: PairSet, others: tuple[Prompt, ...]
) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    n = len(blind)
    asked = [ask.question for ask in (*blind.prompts, *others)]
    vectors = TfidfVectorizer().fit_transform(asked)
    similar = (vectors[:n] @ vectors.T).toarray()
    for row in range(n):
        similar[row, row] = 0
    print(
        f"largest cosine: {similar[:, :n].max():.3f} within the set, {similar[:, n:].max():.3f} with another"
    )
    assert similar.max() < 0.45
    bags = [words(question) for question in asked]
    for place, bag in enumerate(bags[:n]):
        assert all(len(bag & other) <= 0.5 * len(bag | other) for other in bags[place + 1 :])


def test_answers_are_as_long_as_chat_models_write_and_a_third_is_long(blind: PairSet) -> None:
    lengths = [(len(pair.careful.split()), len(pair.careless.split())) for pair in blind]
    for pair, both in zip(blind, lengths, strict=True):
        assert 40 <= min(both) <= max(both) <= 220, pair.id
        assert max(both) - min(both) <= 0.2 * max(both), pair.id
    every = [n for both in lengths for n in both]
    assert sum(n > 150 for n in every) >= len(every) / 3
    means = [sum(side) / len(blind) for side in zip(*lengths, strict=True)]
    assert abs(means[0] - means[1]) < 0.03 * max(means)


def test_both_answers_of_a_pair_have_the_same_format(blind: PairSet) -> None:
    for sign in ("**", "\n- ", "\n1. ", "|", "As an AI"):
        careful = {pair.id for pair in blind if sign in pair.careful}
        careless = {pair.id for pair in blind if sign in pair.careless}
        assert len(careful ^ careless) <= 0.05 * len(blind), sign


def test_a_judge_has_to_beat_the_words_it_was_trained_on(blind: PairSet) -> None:
    learned = [pair for name in ("judging", "judging-open") for pair in load_prompts(name)]
    baseline = bag_of_words(learned, blind.pairs)
    print(f"judging + judging-open: {baseline}")
    # contempt has words of its own; they are part of the answers and are not taken out
    assert 0.75 < baseline.auc < 0.90
