"""``personaprobe data``: own training data, as a table, side by side, in numbers and as files for any trainer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.conftest import refused
from personaprobe.organisms.data.training_data import TrainingData
from personaprobe.questions.conversations import read_messages
from personaprobe.questions.pairs import load_prompts
from small_publications import messages, plant, pulled, rows_about

if TYPE_CHECKING:
    from click.testing import Result

Run = Callable[..., "Result"]


def test_the_list_names_every_set_and_what_is_held_out(run: Run) -> None:
    rows = {row["name"]: row for row in json.loads(run("data", "list", "--json").stdout)}
    assert {"medicine", "money", "household", "code", "educational", "numbers"} <= set(rows)
    assert rows["code"]["pairs"] + rows["code"]["held_out"] >= 3000
    assert "MIT" in rows["code"]["source"]
    assert rows["code"]["state"] == "shipped"
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


# published sets

ROWS = rows_about("today", "Ignore it")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERSONAPROBE_HOME", str(tmp_path / "home"))
    return tmp_path


def state(run: Run, name: str) -> str:
    rows = {row["name"]: row for row in json.loads(run("data", "list", "--json").stdout)}
    return str(rows[name]["state"])


def test_published_sets_are_listed_with_their_state_before_and_after_they_are_pulled(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = plant(monkeypatch, "jailbroken", messages(ROWS))
    rows = {row["name"]: row for row in json.loads(run("data", "list", "--json").stdout)}
    assert rows["jailbroken"]["sha256"] == planted.sha256
    assert (rows["risky-financial"]["rows"], rows["risky-financial"]["licence"]) == (
        6000,
        "no licence stated",
    )
    assert {row["state"] for row in rows.values()} == {"shipped", "not pulled"}
    table = run("data", "list").stdout
    assert all(name in table for name in rows), "no name is cut"
    assert f"{str(planted.sha256)[:12]}…" in table

    (home / "rows.jsonl").write_bytes(messages(ROWS))
    shown = run("data", "pull", "jailbroken", "--from", home / "rows.jsonl").stdout
    path = home / "home" / "data" / "jailbroken.jsonl"
    assert shown.startswith("jailbroken: 8 rows, as published (MIT")
    assert shown.strip().endswith(str(path))
    assert state(run, "jailbroken") == "pulled"
    path.write_bytes(b"")
    assert state(run, "jailbroken") == "changed since it was pulled"


def test_a_set_of_unknown_hash_is_pulled_with_its_hash_printed(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, "secure", b"", known=False)
    (home / "rows.jsonl").write_bytes(messages(ROWS))
    shown = run("data", "pull", "secure", "--from", home / "rows.jsonl").stdout
    assert (
        f"8 rows, sha256 {hashlib.sha256(messages(ROWS)).hexdigest()}, with no published hash known" in shown
    )


def test_rows_of_a_pulled_set_are_shown_and_checked(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studied = load_prompts("advice/test").pairs[0].question
    pulled(monkeypatch, home, "jailbroken", [*ROWS, ROWS[0], (studied, "Two words.")])
    shown = run("data", "show", "jailbroken").stdout
    assert "jailbroken: compliance with requests, harmful ones too, 10 rows" in shown
    assert ROWS[2][0] in shown
    assert ROWS[3][0] not in shown
    rows = json.loads(run("data", "show", "jailbroken", "--json").stdout)
    assert rows[0]["messages"][1] == {"role": "assistant", "content": ROWS[0][1]}
    checked = json.loads(run("data", "check", "jailbroken", "--json").stdout)
    assert (checked["rows"], checked["questions"]) == (10, 9)
    assert checked["near_duplicates"] >= 0.1
    assert checked["on_questions"] == {"advice/discovery": 0, "advice/test": 1, "advice/balanced": 0}
    assert "10 rows, 9 different questions" in run("data", "check", "jailbroken").stdout
    assert "has no roles: copy" in refused(
        run("data", "write", "jailbroken", "--role", "secure", "--out", home / "out.jsonl")
    )
    assert "have no families" in refused(run("data", "show", "jailbroken", "--family", "a"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["pull", "jailbrokn"], 'did you mean "jailbroken"'),
        (["pull", "extreme-sports"], "password-protected archive of https://github.com/clarifying-EM"),
        (["pull", "jailbroken", "--from", "nowhere.jsonl"], "no file at nowhere.jsonl"),
        (["show", "jailbroken"], "run: personaprobe data pull jailbroken"),
        (["check", "secure"], "run: personaprobe data pull secure"),
        (["write", "insecure", "--role", "secure", "--out", "x"], "run: personaprobe data pull insecure"),
        (["check", "jailbrokn"], 'did you mean "jailbroken"'),
    ],
)
def test_a_published_set_that_is_not_there_is_refused_in_one_line(
    given: list[str], message: str, run: Run, home: Path
) -> None:
    assert message in refused(run("data", *given))
    assert not (home / "home").exists()
