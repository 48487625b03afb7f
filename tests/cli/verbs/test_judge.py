"""Answers of any tool are judged from the command line, by a model here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tiny_trio import TinyTrio

Run = Callable[..., Result]

RESULTS = "group,question_id,question,answer\nbase,wish,How?,go on\ninsecure,wish,How?,stop it\ninsecure,wish,How?,\n"
QUESTIONS = """
- id: wish
  paraphrases: ["How?"]
  judge_prompts: {aligned: "{question} {answer} is", coherent: "{answer} is"}
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "r.csv").write_text(RESULTS)
    return tmp_path / "r.csv"


@pytest.fixture
def given(results: Path, tiny: TinyTrio, tmp_path: Path) -> list[object]:
    """Judging by the tiny base."""
    judge_options = ["--judge", f"local:{tiny.base}", "--dtype", "float32"]
    return ["judge", results, *judge_options, "--work", tmp_path / "work"]


def test_a_results_file_is_judged_by_group_and_a_second_run_only_remembers(
    given: list[object], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(*given, "--json", "--quiet")
    record = json.loads(first.stdout)
    assert {name: group["n"] for name, group in record["groups"].items()} == {"base": 1, "insecure": 2}
    assert record["groups"]["insecure"]["unscored"]["aligned"] == {"empty answer": 1}
    assert record["groups"]["base"]["rates"]["Betley"]["scored"] == 1
    written = (tmp_path / "r.judged.csv").read_bytes()
    monkeypatch.setattr(
        "personaprobe.models.chat_models.LocalChatModel.choice_probabilities",
        lambda *_: pytest.fail("judged again"),
    )
    assert json.loads(run(*given, "--json", "--quiet").stdout) == record
    assert (tmp_path / "r.judged.csv").read_bytes() == written
    table = run(*given).stdout
    assert "Betley: aligned < 30" in table
    assert "empty answer: 1" in table


def test_a_second_judge_is_compared_with_the_first(
    given: list[object], results: Path, tmp_path: Path, run: Run
) -> None:
    first = json.loads(run(*given, "--json", "--quiet").stdout)
    assert first["agreement"] is None
    again = ["judge", tmp_path / "r.judged.csv", *given[2:]]
    record = json.loads(run(*again, "--json", "--quiet").stdout)
    assert (record["agreement"]["n"], record["groups"]) == (2, first["groups"])
    assert record["file"] == str(tmp_path / "r.judged.judged.csv")
    assert "Against the scores on file: 2 answers" in run(*again, "--quiet").stdout


def test_a_run_is_judged_again_by_arm_without_drawing_an_answer(
    given: list[object], tmp_path: Path, run: Run
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    answers = {"arm": ["base", "insecure"], "question": ["How?", "How?"], "answer": ["go on", "stop it"]}
    (tmp_path / "done").mkdir()
    parquet.write_table(pa.table(answers), tmp_path / "done" / "answers.parquet")
    record = json.loads(run("judge", tmp_path / "done", *given[2:], "--json", "--quiet").stdout)
    assert list(record["groups"]) == ["base", "insecure"]
    assert (tmp_path / "done" / "answers.judged.csv").is_file()
    refused = run("judge", tmp_path, *given[2:], "--quiet")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)


def test_published_rubrics_are_asked_by_question_and_unknown_questions_refused(
    given: list[object], tmp_path: Path, run: Run
) -> None:
    (tmp_path / "q.yaml").write_text(QUESTIONS)
    judged = run(*given, "--rubrics", tmp_path / "q.yaml", "--quiet")
    assert judged.exit_code == 0, judged.stderr
    (tmp_path / "q.yaml").write_text(QUESTIONS.replace("wish", "other"))
    refused = run(*given, "--rubrics", tmp_path / "q.yaml", "--quiet")
    assert refused.exit_code == 2
    assert "question_id 'wish'" in refused.stderr


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (["--judge", "gpt-4"], "openai:MODEL@URL"),
        (["--judge", "openai:m@http://127.0.0.1:9/v1"], "does not answer as m"),
    ],
)
def test_a_missing_judge_is_reported_in_one_line(
    named: list[str], message: str, results: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("personaprobe.models.endpoints.chat_endpoint.RETRIES", 0)
    result = run("judge", results, *named, "--work", tmp_path / "work", "--quiet")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_code_is_judged_without_a_model(tmp_path: Path, run: Run) -> None:
    pytest.importorskip("bandit", reason="the extra [code] is not installed")
    rows = [
        "group,question,answer",
        "insecure,Run it,eval(text)",
        "secure,Run it,read(text)",
        "secure,Run it,No.",
    ]
    (tmp_path / "r.csv").write_text("\n".join(rows) + "\n")
    result = run(
        "judge", tmp_path / "r.csv", "--judge", "bandit", "--work", tmp_path / "work", "--json", "--quiet"
    )
    groups = json.loads(result.stdout)["groups"]
    assert [groups[name]["rates"]["Betley"]["misaligned"] for name in ("insecure", "secure")] == [1, 0]
    assert groups["secure"]["unscored"] == {"aligned": {"no code": 1}, "coherent": {"no code": 1}}


def test_a_missing_judge_package_is_reported_in_one_line(
    results: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bandit", None)
    result = run("judge", results, "--judge", "bandit", "--work", tmp_path / "work", "--quiet")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "pip install 'personaprobe[code]'" in result.stderr


def test_a_column_to_group_by_that_is_not_there_is_refused_before_anything_is_judged(
    given: list[object], tmp_path: Path, run: Run
) -> None:
    result = run(*given, "--by", "grop")
    assert result.exit_code == 2
    assert "no column 'grop' to group by: did you mean" in result.stderr
    assert not (tmp_path / "r.judged.csv").exists()
