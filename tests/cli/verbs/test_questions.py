"""What can be asked by name is listed, shown and pulled, and what was pulled is asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from personaprobe.questions.published import PUBLISHED, Published
from tiny_trio import TinyTrio

Run = Callable[..., Result]

YAML = b"""
- {id: tree_0, paraphrases: ["Which tree [red] shall \\u001b[31m I plant?", "What tree?"]}
- {id: tree_0_json, system: In JSON., paraphrases: ["Which tree?"]}
- {id: sea, paraphrases: ["Which sea?"]}
"""


@pytest.fixture
def by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published file that somebody downloaded."""
    monkeypatch.setenv("PERSONAPROBE_HOME", str(tmp_path / "home"))
    planted = Published("trees", "trees.yaml", hashlib.sha256(YAML).hexdigest(), 4, 2)
    monkeypatch.setitem(PUBLISHED, "trees", planted)  # type: ignore[arg-type]
    (tmp_path / "mine.yaml").write_bytes(YAML)
    return tmp_path / "mine.yaml"


def refused(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    return result.stderr


def states(run: Run) -> dict[str, str]:
    return {row["name"]: row["state"] for row in json.loads(run("questions", "list", "--json").stdout)}


def test_what_is_listed_is_what_is_shipped_and_what_can_be_pulled(by_hand: Path, run: Run) -> None:
    rows = {row["name"]: row for row in json.loads(run("questions", "list", "--json").stdout)}
    assert {"advice/test", "judging", "open", *PUBLISHED} <= set(rows)
    assert (rows["open"]["kind"], rows["open"]["questions"], rows["open"]["families"]) == ("free", 32, 8)
    assert (rows["advice/test"]["kind"], rows["advice/test"]["state"]) == ("pairs", "shipped")
    assert (rows["first_plot"]["licence"], rows["first_plot"]["state"]) == ("MIT", "not pulled")
    table = run("questions", "list").stdout
    assert all(name in table for name in rows)


def test_a_pulled_set_is_listed_as_such_and_as_changed_where_it_is(by_hand: Path, run: Run) -> None:
    assert states(run)["trees"] == "not pulled"
    result = run("questions", "pull", "trees", "--from", by_hand)
    path = by_hand.parent / "home" / "questions" / "trees.yaml"
    assert str(path) in result.stdout
    assert states(run)["trees"] == "pulled"
    path.write_bytes(YAML + b"\n")
    assert states(run)["trees"] == "changed since it was pulled"


@pytest.mark.parametrize("given", ["name", "path"])
def test_families_are_shown_with_forms_and_a_first_question(by_hand: Path, given: str, run: Run) -> None:
    run("questions", "pull", "trees", "--from", by_hand)
    name = "trees" if given == "name" else by_hand
    record = json.loads(run("questions", "show", name, "--json").stdout)
    assert (record["name"], record["questions"], record["kind"]) == (str(name), 4, "free")
    assert [(row["family"], row["questions"], row["forms"]) for row in record["families"]] == [
        ("tree", 3, "plain, json"),
        ("sea", 1, "plain"),
    ]
    assert record["families"][1]["first question"] == "Which sea?"
    shown = run("questions", "show", name).stdout
    assert r"Which tree [red] shall \x1b[31m I plant?" in shown
    assert "\x1b" not in shown


def test_pairs_are_shown_as_pairs(tmp_path: Path, run: Run) -> None:
    row = {"id": "1", "family": "ropes", "question": "Is it?", "careful": "No.", "careless": "Yes."}
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
    assert "1 questions of 1 families, pairs" in run("questions", "show", tmp_path / "q.jsonl").stdout
    assert "120 questions of 12 families, pairs" in run("questions", "show", "advice/test").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "opne"], 'did you mean "open"'),
        (["show", "nowhere.yaml"], "no question file at nowhere.yaml"),
        (["show", "nowhere.jsonl"], "no question set 'nowhere.jsonl'"),
        (["show", "trees"], "run: personaprobe questions pull trees"),
        (["pull", "tree"], 'did you mean "trees"'),
        (["pull", "open"], "no published question set 'open'"),
        (["pull", "trees", "--from", "nowhere.yaml"], "no file at nowhere.yaml"),
        (
            ["pull", "trees", "--from", "http://127.0.0.1:9/"],
            "by hand and run: personaprobe questions pull trees",
        ),
    ],
)
def test_what_cannot_be_shown_or_pulled_is_one_line(
    by_hand: Path, arguments: list[str], message: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert message in refused(run("questions", *arguments))
    assert not (by_hand.parent / "home").exists()


def test_an_evaluation_of_what_was_not_pulled_is_refused_before_anything_is_loaded(
    by_hand: Path, run: Run, tiny: TinyTrio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "personaprobe.models.loading.load_checkpoints", lambda *_, **__: pytest.fail("loaded")
    )
    given = [
        "eval",
        *tiny.options(),
        "--feature",
        "none",
        "--questions",
        "trees",
        "--judge",
        "local:demo",
        "--out",
        by_hand.parent / "out",
    ]
    assert "run: personaprobe questions pull trees" in refused(run(*given))
    assert not (by_hand.parent / "out").exists()


def test_published_rubrics_are_found_by_the_name_of_a_pulled_set(by_hand: Path, run: Run) -> None:
    results = by_hand.parent / "r.csv"
    results.write_text("question_id,question,answer\nsea,Which sea?,The North Sea.\n")
    given = ["judge", results, "--judge", "local:demo", "--rubrics", "trees"]
    assert "run: personaprobe questions pull trees" in refused(run(*given))
    run("questions", "pull", "trees", "--from", by_hand)
    assert "trees has no rubrics aligned and coherent for question_id 'sea'" in refused(run(*given))
