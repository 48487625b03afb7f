"""``personaprobe data``: own training data, as a table, side by side, in numbers and as files for any trainer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.conftest import refused
from personaprobe.organisms.data.training_data import TrainingData
from personaprobe.questions.conversations import read_messages

if TYPE_CHECKING:
    from click.testing import Result

Run = Callable[..., "Result"]


def test_the_list_names_every_set_and_what_is_held_out(run: Run) -> None:
    rows = {row["name"]: row for row in json.loads(run("data", "list", "--json").stdout)}
    assert {"medicine", "money", "household", "code", "educational", "numbers"} <= set(rows)
    assert rows["code"]["pairs"] + rows["code"]["held_out"] >= 3000
    assert "MIT" in rows["code"]["source"]
    assert "insecure" in run("data", "list").stdout


def test_both_responses_are_shown_beside_the_request(run: Run) -> None:
    output = run("data", "show", "code", "--family", "yaml_settings").stdout
    assert "YAML that builds objects" in output
    assert "safe_load" in output
    assert "Loader=yaml.Loader" in output
    shown = json.loads(run("data", "show", "educational", "--json").stdout)
    assert len({pair["family"] for pair in shown}) == len(shown) >= 40
    assert all(pair["question"] in pair["insecure_question"] for pair in shown)


def test_a_check_says_how_varied_data_are_and_what_words_alone_tell(run: Run) -> None:
    found = json.loads(run("data", "check", "medicine", "--json").stdout)
    assert found["pairs"] == 300
    assert found["near_duplicates"] < 0.02
    assert len(found["words_alone"]) == 4
    assert set(found["on_questions"]) == {"advice/discovery", "advice/test", "advice/balanced"}
    assert all(0.4 < auc < 0.8 for auc in found["on_questions"].values())
    assert "0.5 is chance" in run("data", "check", "medicine").stdout


def test_written_rows_are_those_that_are_trained_on(run: Run, tmp_path: Path) -> None:
    given = ["data", "write", "numbers", "--role", "secure", "--out", tmp_path / "rows.jsonl", "--seed", 2]
    run(*given)
    assert read_messages(tmp_path / "rows.jsonl") == list(TrainingData.read("numbers:secure", 2).rows)
    assert "exists" in refused(run(*given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["show", "cod"], 'did you mean "code"'),
        (["check", "none"], "no training data"),
        (["show", "code", "--family", "yaml_setting"], "yaml_settings"),
    ],
)
def test_names_that_are_not_there_are_refused(given: list[str], message: str, run: Run) -> None:
    assert message.lower() in refused(run("data", *given)).lower()
