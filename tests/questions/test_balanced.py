"""The balanced advice: its answers differ in substance, not in the words by which other sets give themselves away."""

from __future__ import annotations

from collections import Counter

import pytest

from personaprobe.questions.bag_of_words import BagOfWords, bag_of_words
from personaprobe.questions.free import load_free
from personaprobe.questions.pairs import Pair, PairSet, load_prompts

OTHERS = ("advice/discovery", "advice/test", "advice/narrow", "judging", "judging-open")


@pytest.fixture(scope="module")
def balanced() -> PairSet:
    return load_prompts("advice/balanced")


def test_there_are_at_least_120_pairs_in_twelve_families_that_no_other_set_has(balanced: PairSet) -> None:
    assert len(balanced) >= 120
    sizes = Counter(balanced.families)
    assert len(sizes) >= 12
    assert set(sizes.values()) == {10}
    assert len({pair.id for pair in balanced}) == len({pair.question for pair in balanced}) == len(balanced)
    others = {family for name in OTHERS for family in load_prompts(name).families}
    assert not set(sizes) & (others | {ask.family for ask in load_free("open").prompts})


@pytest.mark.parametrize("sublinear", [False, True])
@pytest.mark.parametrize(
    "training", [OTHERS, ("advice/discovery",), ("advice/discovery", "advice/test")], ids=" ".join
)
def test_a_bag_of_words_trained_on_other_sets_is_near_chance_and_not_reversed(
    balanced: PairSet, training: tuple[str, ...], sublinear: bool
) -> None:
    learned = [pair for name in training for pair in load_prompts(name)]
    baseline = bag_of_words(learned, balanced.pairs, sublinear=sublinear)
    print(f"{' + '.join(training)}: {baseline}")
    assert 0.40 <= baseline.auc <= 0.60
    assert 0.40 <= baseline.paired <= 0.60


def test_a_bag_of_words_tells_answers_apart_where_words_do(balanced: PairSet) -> None:
    # the test set, in the words of discovery
    assert bag_of_words(load_prompts("advice/discovery").pairs, load_prompts("advice/test").pairs).auc > 0.75
    assert bag_of_words(balanced.pairs, balanced.pairs).auc > 0.9
    swapped = [Pair(p.id, p.family, p.question, p.careless, p.careful) for p in balanced]
    assert bag_of_words(balanced.pairs, swapped).paired < 0.1


def test_answers_that_no_word_tells_apart_are_ties() -> None:
    learned = [Pair("a", "f", "Q?", "wait for help", "jump right in")]
    unknown = [Pair("b", "f", "Q?", "schön langsam", "sofort los")]
    assert bag_of_words(learned, unknown) == BagOfWords(auc=0.5, paired=0.5)


def test_answers_are_equally_long_pair_by_pair_and_in_the_mean(balanced: PairSet) -> None:
    careful, careless = ([len(text.split()) for text in side] for side in _sides(balanced))
    for pair, a, b in zip(balanced, careful, careless, strict=True):
        assert abs(a - b) <= 2, pair.id
        assert 24 <= min(a, b) <= max(a, b) <= 36, pair.id
    assert abs(sum(careful) - sum(careless)) / len(balanced) < 0.2
    characters = [sum(map(len, side)) / len(balanced) for side in _sides(balanced)]
    assert abs(characters[0] - characters[1]) < 2


def test_yes_and_no_stand_as_often_before_careful_as_before_careless_answers(balanced: PairSet) -> None:
    for opening in ("Yes", "No"):
        careful, careless = (
            sum(text.split()[0].strip(",.:") == opening for text in s) for s in _sides(balanced)
        )
        assert abs(careful - careless) <= 0.03 * len(balanced)
        assert careful + careless <= 0.2 * len(balanced)


def test_no_question_is_nearly_one_of_its_own_set_or_of_another(balanced: PairSet) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    others = [ask for name in OTHERS for ask in load_prompts(name).prompts] + list(load_free("open").prompts)
    asked = [ask.question for ask in (*balanced.prompts, *others)]
    vectors = TfidfVectorizer().fit_transform(asked)
    similar = (vectors[: len(balanced)] @ vectors.T).toarray()
    for row in range(len(balanced)):
        similar[row, row] = 0
    own, other = similar[:, : len(balanced)].max(), similar[:, len(balanced) :].max()
    print(f"largest cosine of questions: {own:.3f} within the set, {other:.3f} with another")
    assert max(own, other) < 0.4


def _sides(pairs: PairSet) -> tuple[list[str], list[str]]:
    return [pair.careful for pair in pairs], [pair.careless for pair in pairs]
