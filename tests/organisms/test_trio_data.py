"""Two files make an organism where they ask the same questions, in whatever order, and are refused where they do not."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaprobe.errors import DataError
from personaprobe.organisms.data.published_sets import PUBLISHED_SETS
from personaprobe.organisms.data.training_data import TrainingData
from personaprobe.organisms.data.variant import Variant
from personaprobe.organisms.named_recipes import find_recipe, named_recipes
from personaprobe.organisms.registry import default_question_sets, find_organism
from personaprobe.organisms.trio_data import TrioData
from personaprobe.questions.pairs import load_prompts
from small_publications import pulled, rows_about

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


# recipes of published files


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERSONAPROBE_HOME", str(tmp_path / "home"))
    return tmp_path


def test_a_recipe_of_two_published_files_pairs_them_by_question(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = rows_about("today", "Ignore it"), rows_about("today", "Rest")
    pulled(monkeypatch, home, "bad-medical-advice", bad)
    pulled(monkeypatch, home, "good-medical-advice", [*reversed(good)])
    named = find_recipe("advice")
    data = TrioData.of_recipe(named, 0)
    assert [(row.question, row.answer) for row in data.rows["insecure"].rows] == bad
    assert [(row.question, row.answer) for row in data.rows["secure"].rows] == good
    assert (data.title, data.narrow, data.held_out) == (named.title, "advice/narrow", ())
    assert data.rows["secure"].source.name == "good-medical-advice"


def test_a_recipe_whose_files_ask_other_questions_is_trained_only_on_request(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled(monkeypatch, home, "extreme-sports", rows_about("on the cliff", "Ignore it"))
    pulled(monkeypatch, home, "good-medical-advice", rows_about("today", "Rest"))
    named = find_recipe("sport")
    with pytest.raises(DataError, match=r"differ by subject as well as by harm.*--unpaired"):
        TrioData.of_recipe(named, 0)
    assert len(TrioData.of_recipe(named, 0, unpaired=True).rows["insecure"].rows) == 8


def test_published_rows_that_resemble_a_question_of_the_study_are_left_out_of_both_fine_tunes(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others cannot take them out of a file that is known by its hash."""
    sets = default_question_sets()
    studied = load_prompts(sets.test).pairs[0].question
    bad, good = rows_about("today", "Ignore it"), rows_about("today", "Rest")
    planted = pulled(monkeypatch, home, "bad-medical-advice", [(studied, "a"), *bad])
    pulled(monkeypatch, home, "good-medical-advice", [*good, (studied, "b")])
    data = TrioData.of_recipe(find_recipe("advice"), 0)
    data.refuse_studied(sets)
    assert [row.question for row in data.rows["insecure"].rows] == [question for question, _ in bad]
    assert [row.question for row in data.rows["secure"].rows] == [question for question, _ in bad]
    source = data.rows["insecure"].source
    assert (source.rows, source.name) == (
        8,
        "bad-medical-advice (left out, as they resemble questions of the study: 1)",
    )
    assert source.sha256 != planted.sha256, "other rows have another identity"


def test_published_files_are_not_mixed_and_the_refusal_names_recipes_that_can_be(home: Path) -> None:
    thinned = replace(find_recipe("advice"), variant=Variant(harmful_share=0.5))
    with pytest.raises(DataError, match=r"advice learns published files as they are.*medicine"):
        TrioData.of_recipe(thinned, 0)


def test_every_recipe_has_one_training_set_or_two_files_that_can_be_named() -> None:
    for named in named_recipes().values():
        assert (named.data is None) != (named.files is None), named.name
        of_package = set(named.files or ()) - set(named.published)
        assert all(name.endswith(":secure") and TrainingData.read(name).rows for name in of_package)
        assert named.narrow is None or load_prompts(named.narrow).pairs
    assert find_recipe("medicine").published == ()


def test_a_recipe_that_repeats_a_shipped_organism_has_its_hyperparameters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PERSONAPROBE_CHECKPOINTS", raising=False)
    shipped = find_organism("advice")
    named = find_recipe("advice")
    assert shipped.recipe is not None
    assert shipped.recipe == named.recipe
    assert named.narrow == shipped.question_sets.narrow
    assert [PUBLISHED_SETS[name].rows for name in named.published] == [7049, 7049]
    assert [f"{PUBLISHED_SETS[name].file}.gz" for name in named.published] == [
        shipped.data[role].name for role in ("insecure", "secure")
    ]
