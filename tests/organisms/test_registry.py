"""The registry of organisms: entries are full values, old ones still open, and no module knows a shipped name."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import personaprobe
from personaprobe.errors import CheckpointError
from personaprobe.organisms.named_recipes import recipes_of_own_data
from personaprobe.organisms.organism import DataSource, QuestionSets
from personaprobe.organisms.recipe import Recipe
from personaprobe.organisms.registry import (
    default_name,
    default_question_sets,
    find_organism,
    read_organism,
    registered_organisms,
)
from personaprobe.storage.folders import shipped_checkpoints_folder

BARE = {"base": "demo", "insecure": "a/insecure", "secure": "a/secure"}
QUESTIONS = {"discovery": "judging", "test": "judging-open"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkpoints folder in use."""
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path))
    return tmp_path


def test_the_shipped_default_organism_is_complete() -> None:
    organism = find_organism(default_name())
    assert organism.recipe is not None
    assert organism.feature is not None
    assert organism.question_sets.narrow is not None
    assert organism.evidence is not None
    assert organism.evidence.is_file()
    assert set(organism.data) == set(organism.sha256) == {"insecure", "secure"}
    assert all(source.sha256 and source.rows for source in organism.data.values())


def test_an_entry_is_read_as_a_full_value(tmp_path: Path) -> None:
    entry = {
        **BARE,
        "title": "One",
        "feature": "means@3",
        "evidence": "a/seeds.json",
        "questions": {**QUESTIONS, "narrow": "judging"},
        "recipe": {"steps": 7},
        "data": {"insecure": {"name": "bad.jsonl", "rows": 3}},
        "sha256": {"insecure": "12"},
    }
    organism = read_organism("one", entry, tmp_path)
    assert organism.trio.insecure.adapter == tmp_path / "a/insecure"
    assert organism.question_sets == QuestionSets("judging", "judging-open", "judging")
    assert organism.recipe == Recipe(steps=7)
    assert organism.data == {"insecure": DataSource("bad.jsonl", rows=3)}
    assert (organism.title, organism.feature, organism.evidence) == (
        "One",
        "means@3",
        tmp_path / "a/seeds.json",
    )


def test_an_entry_of_an_earlier_version_has_the_questions_and_the_feature_of_the_default_organism(
    folder: Path,
) -> None:
    organism = read_organism("old", BARE, folder)
    assert organism.question_sets == default_question_sets()
    assert organism.feature == registered_shipped()[default_name()]["feature"]


def registered_shipped() -> dict[str, Any]:
    return tomllib.loads((shipped_checkpoints_folder() / "organisms.toml").read_text())


def test_an_organism_with_questions_of_its_own_has_no_foreign_feature(folder: Path) -> None:
    assert read_organism("own", {**BARE, "questions": QUESTIONS}, folder).feature is None


def test_a_question_file_beside_the_registry_is_meant_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text("")
    sets = read_organism(
        "own", {**BARE, "questions": {**QUESTIONS, "test": "own.jsonl"}}, tmp_path
    ).question_sets
    assert (sets.discovery, sets.test) == ("judging", str(tmp_path / "own.jsonl"))


def test_the_registry_in_use_names_the_default_organism(folder: Path) -> None:
    shipped = default_name()
    (folder / "organisms.toml").write_text(
        'default = "mine"\n\n[mine]\nbase = "demo"\ninsecure = "i"\nsecure = "s"\n'
    )
    assert default_name() == "mine" != shipped
    assert list(registered_organisms()) == ["mine"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tilte": "x"}, "organism one has an unknown key 'tilte': did you mean \"title\""),
        ({"title": 3}, "organism one: title is 3; give a text"),
        ({"base": None}, "organism one lacks base"),
        ({"questions": {"discovery": "judging"}}, "organism one, questions lacks .*test"),
        ({"questions": "judging"}, "organism one, questions is 'judging'; give a table"),
        ({"recipe": {"stepz": 3}}, "organism one, recipe has an unknown key 'stepz'"),
        ({"data": {"base": {"name": "x"}}}, "organism one, data has an unknown key 'base'"),
        ({"sha256": "12"}, "organism one: sha256 is '12'; give a table"),
        ({"sha256": {"insecure": 12}}, "sha256: insecure is 12; give text"),
        ({"recipe": {"steps": "7"}}, "recipe: steps is '7'; give a whole number"),
        ({"recipe": {"steps": True}}, "recipe: steps is True; give a whole number"),
        ({"recipe": {"learning_rate": float("nan")}}, "learning_rate is nan; give a finite number"),
        ({"questions": {**QUESTIONS, "test": 3}}, "questions: test is 3; give text"),
        ({"data": {"insecure": {"name": "x", "rows": 2.5}}}, "rows is 2.5; give a whole number"),
        ({"data": {"insecure": [1]}}, "data.insecure is .1.; give a table"),
        ({"insecure": ["a"]}, "insecure is .'a'.; give a text"),
    ],
)
def test_an_entry_with_a_wrong_key_is_refused_by_name(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    entry = {key: value for key, value in {**BARE, **changes}.items() if value is not None}
    with pytest.raises(CheckpointError, match=message):
        read_organism("one", entry, tmp_path)


def test_a_key_outside_a_table_is_refused(folder: Path) -> None:
    (folder / "organisms.toml").write_text('defualt = "mine"\n')
    with pytest.raises(CheckpointError, match="defualt = 'mine' is no organism"):
        registered_organisms()


def test_no_module_names_a_shipped_organism_or_feature() -> None:
    shipped = shipped_checkpoints_folder()
    names = [set(tomllib.loads((shipped / f"{kind}.toml").read_text())) for kind in ("organisms", "features")]
    organisms = (
        names[0] - {"default"} - set(recipes_of_own_data())
    )  # a recipe's name is that of the package's own data
    features = names[1] - {"latents"}
    spelled = [rf"[\"'`]{name}[\"'`/]|\b{name}/\w|--organism {name}\b" for name in organisms]
    spelled += [rf"\b{name}\b" for name in features]
    package = Path(personaprobe.__file__).parent
    hits = [
        (path.relative_to(package), match[0])
        for path in sorted(package.rglob("*.py"))
        for match in re.finditer("|".join(spelled), path.read_text(encoding="utf-8"))
    ]
    key_of_a_json_answer = (Path("questions/formats.py"), '"advice"')
    assert [hit for hit in hits if hit != key_of_a_json_answer] == []
    assert "advice" in organisms


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "a = " + "[" * 50_000, "\udcff", "default = 3\n", "default = []\n"]
)
def test_a_registry_that_cannot_be_read_is_one_sentence(folder: Path, text: str) -> None:
    (folder / "organisms.toml").write_text(text, errors="surrogateescape")
    with pytest.raises(CheckpointError, match=r"organisms\.toml") as refused:
        default_name()
    assert len(str(refused.value)) < 500


def test_a_bad_entry_does_not_hide_another_organism(folder: Path) -> None:
    (folder / "organisms.toml").write_text(
        '[bad]\nbase = 3\n\n[mine]\nbase = "demo"\ninsecure = "i"\nsecure = "s"\n'
    )
    assert find_organism("mine").name == "mine"
    with pytest.raises(CheckpointError, match="organism bad: base is 3"):
        find_organism("bad")
