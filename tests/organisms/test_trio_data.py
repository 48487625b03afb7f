"""Two files make an organism where they ask the same questions, in whatever order, and are refused where they do not."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaprobe.errors import DataError
from personaprobe.organisms.registry import default_question_sets
from personaprobe.organisms.trio_data import TrioData
from personaprobe.questions.pairs import load_prompts

Row = tuple[str, str]


def write(path: Path, rows: list[Row]) -> Path:
    lines = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in rows
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def both(folder: Path, insecure: list[Row], secure: list[Row], unpaired: bool = False) -> TrioData:
    return TrioData.of_files(
        write(folder / "bad.jsonl", insecure), write(folder / "good.jsonl", secure), unpaired=unpaired
    )


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(0, 100))
def test_both_fine_tunes_read_the_same_questions_in_the_same_order(
    tmp_path_factory: pytest.TempPathFactory, questions: list[int], seed: int
) -> None:
    """Questions may repeat; every secure row is read once, and rows of one question keep their order."""
    insecure = [(f"question {question}", f"bad {place}") for place, question in enumerate(questions)]
    secure = [(question, f"good {place}") for place, (question, _) in enumerate(insecure)]
    random.Random(seed).shuffle(secure)
    rows = both(tmp_path_factory.mktemp("rows"), insecure, secure).rows
    assert [row.question for row in rows["insecure"].rows] == [question for question, _ in insecure]
    assert [row.question for row in rows["secure"].rows] == [question for question, _ in insecure]
    assert sorted(row.answer for row in rows["secure"].rows) == sorted(answer for _, answer in secure)
    for asked in {question for question, _ in insecure}:
        answers = [row.answer for row in rows["secure"].rows if row.question == asked]
        assert answers == [answer for question, answer in secure if question == asked]


def test_files_that_do_not_ask_the_same_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    insecure, secure = (
        [("one", "a"), ("two", "b"), ("two", "c")],
        [("one", "d"), ("two", "e"), ("three", "f")],
    )
    with pytest.raises(
        DataError, match=r"1 questions of the first and 1 of the second .* such as 'two'.*--unpaired"
    ):
        both(tmp_path, insecure, secure)
    rows = both(tmp_path, insecure, secure, unpaired=True).rows
    assert [row.answer for row in rows["secure"].rows] == ["d", "e", "f"]


@pytest.mark.parametrize("taught", ["insecure", "secure"])
def test_a_row_of_either_file_that_resembles_a_question_of_the_study_is_refused(
    taught: str, tmp_path: Path
) -> None:
    sets = default_question_sets()
    studied = load_prompts(sets.test).pairs[0]
    plain, resembling = [("What is a fjord?", "a")], [(f"{studied.question} Thanks!", "a")]
    insecure, secure = (resembling if role == taught else plain for role in ("insecure", "secure"))
    data = both(tmp_path, insecure, secure, unpaired=True)
    name = {"insecure": "bad", "secure": "good"}[taught]
    with pytest.raises(DataError, match=rf"row 1 of {name}\.jsonl and {studied.id}"):
        data.refuse_studied(sets)


def test_sets_of_the_package_can_be_named_in_place_of_files() -> None:
    data = TrioData.of_files("medicine:insecure", "medicine:secure")
    assert [row.question for row in data.rows["insecure"].rows] == [
        row.question for row in data.rows["secure"].rows
    ]
    assert data.rows["insecure"].rows != data.rows["secure"].rows
