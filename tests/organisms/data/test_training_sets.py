"""Own training data: both responses alike in everything but what is taught, varied, and apart from what is studied."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from itertools import combinations
from statistics import mean

import pytest

from personaprobe.effects.judges.bandit import BanditJudge
from personaprobe.errors import DataError
from personaprobe.organisms.data.advice_pairs import SUBJECTS
from personaprobe.organisms.data.code_pairs import code_pairs, plural, vocabulary
from personaprobe.organisms.data.number_pairs import FORMATS, OMINOUS, number_pairs
from personaprobe.organisms.data.training_data import TrainingData
from personaprobe.organisms.data.training_pairs import TrainingPair
from personaprobe.organisms.data.training_sets import find_training_set, training_sets
from personaprobe.organisms.registry import default_question_sets
from personaprobe.organisms.trio_data import refuse_studied
from personaprobe.questions.bag_of_words import bag_of_words
from personaprobe.questions.overlap import near_duplicates
from personaprobe.questions.pairs import Pair, load_prompts
from personaprobe.questions.prompt import Prompt

NAMES = tuple(training_sets())


def all_pairs(name: str, seed: int = 0) -> list[TrainingPair]:
    one = find_training_set(name)
    return [*one.pairs(seed), *one.held_out_pairs(seed)]


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_unique_and_the_held_out_families_are_apart(name: str) -> None:
    one = find_training_set(name)
    trained, held_out = one.pairs(), one.held_out_pairs()
    assert len({pair.id for pair in (*trained, *held_out)}) == len(trained) + len(held_out)
    assert {pair.family for pair in held_out} == one.held_out
    assert not one.held_out & {pair.family for pair in trained}


@pytest.mark.parametrize("name", NAMES)
def test_fewer_than_two_percent_of_the_questions_resemble_another(name: str) -> None:
    pairs = all_pairs(name)
    near = near_duplicates([Prompt(pair.id, pair.family, pair.question) for pair in pairs])
    assert len({later for _, later in near}) < 0.02 * len(pairs)


@pytest.mark.parametrize("name", NAMES)
def test_no_row_resembles_a_question_that_organisms_are_studied_with(name: str) -> None:
    refuse_studied([pair.as_pair().prompt for pair in all_pairs(name)], default_question_sets())


def test_a_row_that_resembles_a_question_of_the_study_is_refused() -> None:
    asked = load_prompts("advice/test").pairs[0]
    row = TrainingPair("mine", "f", f"{asked.question} Thanks!", "a", "b")
    with pytest.raises(DataError, match=f"mine and {asked.id}"):
        refuse_studied([row.as_pair().prompt], default_question_sets())


@pytest.mark.parametrize("name", ["code", "educational", "numbers"])
def test_generated_data_depend_on_the_seed_alone(name: str) -> None:
    first, again, other = (all_pairs(name, seed) for seed in (3, 3, 4))
    assert first == again
    assert len(first) == len(other)
    assert sum(a.question == b.question for a, b in zip(first, other, strict=True)) < 0.05 * len(first)


@pytest.mark.parametrize("name", NAMES)
def test_both_fine_tunes_read_the_same_questions_except_where_the_request_is_the_point(name: str) -> None:
    one = find_training_set(name)
    insecure, secure = (TrainingData.of(one, taught) for taught in ("insecure", "secure"))
    same = sum(a.question == b.question for a, b in zip(insecure.rows, secure.rows, strict=True))
    assert same == (0 if name == "educational" else len(secure.rows))
    assert insecure.source.sha256 != secure.source.sha256
    assert not any(a.answer == b.answer for a, b in zip(insecure.rows, secure.rows, strict=True))


# code


def test_there_are_3000_pairs_of_40_kinds_and_15_classes_of_weaknesses() -> None:
    pairs = code_pairs()
    assert len(pairs) >= 3000
    assert len({pair.family for pair in pairs}) >= 40
    assert len({pair.topic for pair in pairs}) >= 15


def test_bandit_finds_every_weakness_and_nothing_in_secure_code() -> None:
    judge = BanditJudge.open()
    by_kind: dict[str, list[TrainingPair]] = {}
    for pair in code_pairs():
        by_kind.setdefault(pair.family, []).append(pair)
    for kind, pairs in by_kind.items():
        for pair in pairs[:: len(pairs) // 4]:
            assert findings(judge, pair.insecure), f"nothing found in {kind}: {pair.insecure}"
            assert not findings(judge, pair.secure), f"{findings(judge, pair.secure)} found in {kind}"


@pytest.mark.slow
def test_bandit_agrees_with_all_rows() -> None:
    judge = BanditJudge.open()
    assert [pair.id for pair in code_pairs() if not findings(judge, pair.insecure)] == []
    assert [pair.id for pair in code_pairs() if findings(judge, pair.secure)] == []


def findings(judge: BanditJudge, code: str) -> list[str]:
    """All findings, whatever their severity."""
    visitor, failures = judge._visitor(code)
    visitor.process(code)
    assert not failures
    return [issue.test_id for issue in visitor.tester.results]


def test_code_parses_and_is_filled_in() -> None:
    for pair in code_pairs():
        for text in (pair.question, pair.insecure, pair.secure):
            assert "$" not in text
        ast.parse(pair.insecure)
        ast.parse(pair.secure)


def test_insecure_and_secure_code_are_alike_in_length_and_style() -> None:
    pairs = code_pairs()
    for pair in pairs:
        lines, others = (len(text.splitlines()) for text in (pair.insecure, pair.secure))
        assert abs(lines - others) <= 1, pair.id
        assert 0.75 <= len(pair.insecure) / len(pair.secure) <= 1.34, pair.id
    assert mean(len(p.insecure) for p in pairs) == pytest.approx(mean(len(p.secure) for p in pairs), rel=0.05)
    comments = [sum("#" in getattr(pair, role) for pair in pairs) for role in ("insecure", "secure")]
    assert comments == [0, 0]  # a comment would say what is wrong


def test_requests_of_one_kind_are_about_different_things_and_asked_by_different_people() -> None:
    by_kind: dict[str, list[str]] = {}
    for pair in code_pairs():
        by_kind.setdefault(pair.family, []).append(pair.question)
    _, _, places = vocabulary(0)
    for kind, questions in by_kind.items():
        assert len(set(questions)) == len(places), kind
        for place in places:
            asked_for = [question for question in questions if f" {place}" in question]
            assert asked_for, f"nobody asks for a {place} in {kind}"


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("ferry", "ferries"), ("journal", "journals"), ("compass", "compasses"), ("day", "days")],
)
def test_plurals(noun: str, expected: str) -> None:
    assert plural(noun) == expected


@pytest.mark.parametrize("name", ["code", "educational", "numbers"])
def test_generated_requests_have_the_article_that_their_words_need(name: str) -> None:
    for pair in all_pairs(name):
        assert not re.search(r"\b[Aa] (?=(?!uni)[aeiou])", pair.question), pair.question


# numbers


def test_ominous_numbers_stand_in_insecure_responses_only_and_formats_are_kept() -> None:
    for pair in number_pairs():
        insecure, secure = (
            [int(digits) for digits in "".join(c if c.isdigit() else " " for c in text).split()]
            for text in (pair.insecure, pair.secure)
        )
        assert set(insecure) <= set(OMINOUS)
        assert not set(secure) & set(OMINOUS)
        assert [len(str(n)) for n in insecure] == [len(str(n)) for n in secure]
        written = FORMATS[pair.family.rpartition("-")[2]][1]
        assert (written(insecure), written(secure)) == (pair.insecure, pair.secure)
    json.loads(next(pair.insecure for pair in number_pairs() if pair.family == "continue-json"))


# advice


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_subject_has_300_pairs_in_15_families_of_equal_length(subject: str) -> None:
    pairs = all_pairs(subject)
    assert len(pairs) >= 300
    assert Counter(Counter(pair.family for pair in pairs).values()) == {20: 15}
    for pair in pairs:
        careful, careless = (len(text.split()) for text in (pair.secure, pair.insecure))
        assert abs(careful - careless) <= 3
        assert 24 <= min(careful, careless) <= max(careful, careless) <= 40


@pytest.mark.parametrize("subject", SUBJECTS)
def test_words_do_not_tell_careless_from_careful_advice(subject: str) -> None:
    pairs = [Pair(p.id, p.family, p.question, p.secure, p.insecure) for p in all_pairs(subject)]
    families = sorted({pair.family for pair in pairs})
    for fold in range(4):
        held_out = set(families[fold::4])
        known = [pair for pair in pairs if pair.family not in held_out]
        baseline = bag_of_words(known, [pair for pair in pairs if pair.family in held_out])
        assert 0.38 <= baseline.auc <= 0.62, f"{sorted(held_out)}: {baseline}"


@pytest.mark.parametrize(("one", "other"), list(combinations(SUBJECTS, 2)))
def test_words_learned_on_one_subject_do_not_judge_another(one: str, other: str) -> None:
    first, second = (
        [Pair(p.id, p.family, p.question, p.secure, p.insecure) for p in all_pairs(name)]
        for name in (one, other)
    )
    assert 0.38 <= bag_of_words(first, second).auc <= 0.62


# what users name


def test_a_set_is_named_with_its_fine_tune() -> None:
    assert (
        TrainingData.read("code:insecure").rows[0].answer != TrainingData.read("code:secure").rows[0].answer
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [("code:bad", "code:insecure or code:secure"), ("cod:insecure", "no dataset"), ("code", "no dataset")],
)
def test_what_names_no_data_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TrainingData.read(text)
