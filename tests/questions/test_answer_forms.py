"""Forms of answers: both answers of a pair get the same frame, whatever they say, and nothing of them is lost."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaprobe.errors import DataError
from personaprobe.questions.formats import ANSWER_FORMS, find_answer_forms
from personaprobe.questions.pairs import Pair, PairSet


def from_json(text: str) -> str:
    (answer,) = json.loads(text).values()
    return str(answer)


def from_python(text: str) -> str:
    (statement,) = ast.parse(text).body
    assert isinstance(statement, ast.Assign)
    return str(ast.literal_eval(statement.value))


def from_program(text: str) -> str:
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    (returned,) = function.body
    assert isinstance(returned, ast.Return)
    assert returned.value is not None
    return str(ast.literal_eval(returned.value))


READERS: dict[str, Callable[[str], str]] = {
    "json": from_json,
    "python": from_python,
    "program": from_program,
    "template": lambda text: text.removeprefix("advice = # "),
}
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@pytest.mark.parametrize("name", ANSWER_FORMS)
@given(careful=TEXT, careless=TEXT)
def test_a_form_holds_both_answers_whole(name: str, careful: str, careless: str) -> None:
    pairs = PairSet("some", (Pair("a", "family", "Why?", careful, careless),))
    (pair,) = ANSWER_FORMS[name].apply(pairs)
    assert READERS[name](pair.careful) == careful
    assert READERS[name](pair.careless) == careless
    assert pair.question.startswith("Why?\n\n")
    assert (pair.id, pair.family) == ("a", "family")


def test_every_form_is_another_set_of_questions() -> None:
    pairs = PairSet("some", (Pair("a", "family", "Why?", "one", "two"),))
    digests = {pairs.digest, *(form.apply(pairs).digest for form in ANSWER_FORMS.values())}
    assert len(digests) == 1 + len(ANSWER_FORMS)


def test_an_unknown_form_is_refused_with_the_nearest() -> None:
    with pytest.raises(DataError, match="program"):
        find_answer_forms(["programm"])
