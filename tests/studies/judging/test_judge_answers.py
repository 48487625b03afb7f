"""Answers of any model are judged once each; an interruption loses nothing, and nothing is judged twice."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from personaprobe.effects.judges.judge import Case
from personaprobe.effects.judges.judgement import Judgement, Scored, Unscored
from personaprobe.effects.judges.rubrics import DEFAULT_RUBRICS, Rubric
from personaprobe.errors import DataError, EndpointError, FallbackWarning
from personaprobe.storage.run_cache import RunCache
from personaprobe.studies.judging.answer_file import Answers
from personaprobe.studies.judging.judge_answers import judge_all, judge_answers, n_prompt_tokens


class Counting:
    """Scores the length of an answer, and may fail at one."""

    name = "counting"
    batch_size = 1

    def __init__(self, fails_at: str = "") -> None:
        self.fails_at = fails_at
        self.asked: list[tuple[str, str]] = []
        self.cases: list[Case] = []

    def judge(self, cases: Sequence[Case]) -> Iterator[Judgement]:
        for case in cases:
            if self.fails_at and case.answer == self.fails_at:
                raise EndpointError("the server went away")
            self.cases.append(case)
            self.asked.append((case.rubric.name, case.answer))
            n = len(case.answer)
            yield Scored(float(n % 101), raw=f"{n}") if case.answer.strip() else Unscored("empty answer")


def results(path: Path, answers: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(["group", "question", "answer", "aligned"])
        writer.writerows([["a", "Q?", answer, "stale"] for answer in answers])
    return path


TEXTS = ["fine", 'with "quotes", commas\nand lines', "", "x" * 100_000, "ünïcode ☃", "fine"]


def test_an_interrupted_run_resumes_with_the_same_result_and_asks_nothing_twice(tmp_path: Path) -> None:
    answers = Answers.read(results(tmp_path / "r.csv", TEXTS))
    rubrics = [DEFAULT_RUBRICS] * len(TEXTS)
    cache = RunCache(tmp_path / "parts")
    broken = Counting(fails_at="ünïcode ☃")
    with pytest.raises(EndpointError):
        judge_answers(broken, rubrics, answers, cache)
    whole = Counting()
    judged = judge_answers(whole, rubrics, answers, cache)
    assert not set(whole.asked) & set(broken.asked)
    assert judged == judge_answers(Counting(), rubrics, answers, RunCache(None))
    assert judge_answers(Counting(fails_at="fine"), rubrics, answers, cache) == judged
    assert len(whole.asked) + len(broken.asked) == 2 * len(set(TEXTS))


def test_a_batch_that_was_interrupted_is_judged_again_as_a_whole(tmp_path: Path) -> None:
    """Else a score would come out one rounding apart from that of an unbroken run."""
    answers = Answers.read(results(tmp_path / "r.csv", TEXTS))
    rubrics, cache = [DEFAULT_RUBRICS] * len(TEXTS), RunCache(tmp_path / "parts")
    broken, later = Counting(fails_at="ünïcode ☃"), Counting()
    broken.batch_size = later.batch_size = 4
    with pytest.raises(EndpointError):
        judge_answers(broken, rubrics, answers, cache)
    assert len(broken.asked) == 8  # two whole windows, and none of the third
    journal = tmp_path / "parts" / "judgements.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[1:]))
    judge_answers(later, rubrics, answers, cache)
    assert len(later.asked) == 2 + 4


def test_answers_to_one_question_are_judged_in_one_batch(tmp_path: Path) -> None:
    judge = Counting()
    cases = [
        Case(DEFAULT_RUBRICS["aligned"], question, answer)
        for answer in ("one", "two")
        for question in ("A?", "B?")
    ]
    judgements = judge_all(judge, cases, RunCache(None))
    assert judgements == list(Counting().judge(cases))
    assert [case.question for case in judge.cases] == ["A?", "A?", "B?", "B?"]


def test_the_file_written_keeps_every_column_and_says_why_a_score_is_missing(tmp_path: Path) -> None:
    answers = Answers.read(results(tmp_path / "r.csv", TEXTS))
    answers.write(
        tmp_path / "out.csv", judge_answers(Counting(), [DEFAULT_RUBRICS] * 6, answers, RunCache(None))
    )
    again = Answers.read(tmp_path / "out.csv")
    assert [row["answer"] for row in again.rows] == TEXTS
    assert again.columns == (
        "group",
        "question",
        "answer",
        "aligned_before",
        "aligned",
        "aligned_unscored",
        "coherent",
        "coherent_unscored",
        "aligned_raw",
        "aligned_prompt_digest",
        "coherent_raw",
        "coherent_prompt_digest",
    )
    assert (again.rows[0]["aligned"], again.rows[0]["aligned_unscored"]) == ("4.0", "")
    assert (again.rows[2]["aligned"], again.rows[2]["aligned_unscored"]) == ("", "empty answer")
    assert {row["aligned_before"] for row in again.rows} == {"stale"}


def test_raw_output_and_prompt_digest_are_kept_in_the_cache_and_in_the_table(tmp_path: Path) -> None:
    answers, cache = Answers.read(results(tmp_path / "r.csv", TEXTS)), RunCache(tmp_path / "parts")
    fresh = judge_answers(Counting(), [DEFAULT_RUBRICS] * 6, answers, cache)
    cached = judge_answers(Counting(fails_at="fine"), [DEFAULT_RUBRICS] * 6, answers, cache)
    digest = Case(DEFAULT_RUBRICS["aligned"], "Q?", "fine").prompt_digest
    for judged in (fresh, cached):
        assert [answer.aligned.raw for answer in judged] == ["4", "31", None, "100000", "9", "4"]
        assert judged[0].aligned.prompt_digest == digest != judged[0].coherent.prompt_digest
        assert all(answer.coherent.prompt_digest for answer in judged)
    answers.write(tmp_path / "out.csv", cached)
    rows = Answers.read(tmp_path / "out.csv").rows
    assert (rows[0]["aligned_raw"], rows[0]["aligned_prompt_digest"]) == ("4", digest)
    assert rows[2]["aligned_raw"] == ""


def test_cached_judgements_of_earlier_versions_still_load(tmp_path: Path) -> None:
    answers, cache = Answers.read(results(tmp_path / "r.csv", TEXTS)), RunCache(tmp_path / "parts")
    judged = judge_answers(Counting(), [DEFAULT_RUBRICS] * 6, answers, cache)
    journal = tmp_path / "parts" / "judgements.jsonl"
    parts = [json.loads(line) for line in journal.read_text().splitlines()]
    journal.unlink()
    with cache.journal("judgements") as older:
        for part in parts:
            names = {"score", "reason"} & set(part["value"])
            older.add(part["spec"], {name: part["value"][name] for name in names})
    judge = Counting()
    old = judge_answers(judge, [DEFAULT_RUBRICS] * 6, answers, cache)
    assert old == judged
    assert not judge.asked
    assert {answer.aligned.raw for answer in old} == {None}


def test_a_run_folder_is_read_as_its_answers_and_nothing_is_lost_on_the_way(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {
        "arm": ["base", "secure"],
        "question": ["Q?", "Q?"],
        "answer": TEXTS[1:3],
        "aligned": [12.5, None],
    }
    for name in ("answers.parquet", "responses.parquet"):
        folder = tmp_path / name.split(".")[0]
        folder.mkdir()
        parquet.write_table(pa.table(columns), folder / name)
        answers = Answers.read(folder)
        assert answers.columns == tuple(columns)
        assert [row["answer"] for row in answers.rows] == TEXTS[1:3]
        assert [row["aligned"] for row in answers.rows] == ["12.5", ""]
        assert Answers.read(folder / name) == answers


def test_a_folder_without_answers_and_a_file_that_is_no_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="folder of a finished run"):
        Answers.read(tmp_path)
    (tmp_path / "r.parquet").write_bytes(b"question,answer\na,b\n")
    with pytest.raises(DataError, match="not a Parquet file"):
        Answers.read(tmp_path / "r.parquet")


def test_two_judges_are_compared_where_both_scored(tmp_path: Path) -> None:
    rows = [
        ("a" * 10, "10"),
        ("b" * 20, "20"),
        ("c" * 90, "95"),
        ("d" * 40, ""),
        ("", "50"),
        ("e" * 95, "101"),
    ]
    lines = ["question,answer,aligned", *(f"Q?,{answer},{score}" for answer, score in rows)]
    (tmp_path / "r.csv").write_text("\n".join(lines) + "\n")
    answers = Answers.read(tmp_path / "r.csv")
    agreement = answers.agreement(judge_answers(Counting(), [DEFAULT_RUBRICS] * 6, answers, RunCache(None)))
    assert agreement is not None
    assert (agreement.n, agreement.n_bad, agreement.kappa, agreement.auc) == (3, 2, 1.0, 1.0)


def test_where_no_other_judge_was_there_is_no_agreement(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("question,answer\nQ?,fine\n")
    answers = Answers.read(tmp_path / "r.csv")
    assert answers.agreement(judge_answers(Counting(), [DEFAULT_RUBRICS], answers, RunCache(None))) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"question,reply\na,b\n", "lacks the column 'answer'"),
        (b"", "lacks the column 'question'"),
        (b"question,answer\n", "holds no answer"),
        (b"question,answer\na,b,c\n", "line 2 has another number of fields"),
        (b"question,answer\na\n", "line 2 has another number of fields"),
        (b'question,answer\na,"b\n', "line 2 is not CSV"),
        (b"question,answer\na,\xff\xfe\n", "not UTF-8"),
        (b"question;answer\na;b\n", "separated by a semicolon"),
        (b"question\tanswer\na\tb\n", "separated by a tab"),
        (b"question,answer,answer\na,b,c\n", "column 'answer' twice"),
        (b"question,answer,aligned,aligned\na,b,1,2\n", "column 'aligned' twice"),
        (b"question,answer,\na,b,\n", "column 3 of the header has no name"),
        (b"Question,answer\na,b\n", "rename 'Question' to question"),
        (b" question, answer\na,b\n", "rename ' question' to question"),
        (b"prompt,response\na,b\n", "rename 'prompt' to question"),
        (b"question,response\na,b\n", "rename 'response' to answer"),
    ],
)
def test_files_that_are_no_results_are_refused_with_the_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "r.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        Answers.read(tmp_path / "r.csv")


def test_the_cost_of_a_run_is_printed_in_tokens(tmp_path: Path) -> None:
    answers = Answers.read(results(tmp_path / "r.csv", ["x" * 400, "y" * 400]))
    bare = {"aligned": Rubric("aligned", "{answer}"), "coherent": Rubric("coherent", "{answer}")}
    assert n_prompt_tokens([bare, bare], answers) == 400


@pytest.mark.parametrize(
    "record", [{"score": 500.0}, {"score": True}, {"score": None}, {"reason": 3}, {}, None]
)
def test_a_cached_value_that_is_no_judgement_is_judged_again_and_its_file_is_named(
    record: Any, tmp_path: Path
) -> None:
    answers, cache = Answers.read(results(tmp_path / "r.csv", TEXTS)), RunCache(tmp_path / "parts")
    judged = judge_answers(Counting(), [DEFAULT_RUBRICS] * 6, answers, cache)
    journal = tmp_path / "parts" / "judgements.jsonl"
    spec = json.loads(journal.read_text().splitlines()[0])["spec"]
    journal.unlink()
    with cache.journal("judgements") as damaged:
        damaged.add(spec, record)
    with pytest.warns(FallbackWarning, match=r"judgements\.jsonl"):
        assert judge_answers(Counting(), [DEFAULT_RUBRICS] * 6, answers, cache) == judged


def test_the_index_that_pandas_writes_is_one_more_column(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(",question,answer\n0,Q?,fine\n1,Q?,good\n")
    answers = Answers.read(tmp_path / "r.csv")
    assert [row["answer"] for row in answers.rows] == ["fine", "good"]
    answers.write(
        tmp_path / "out.csv", judge_answers(Counting(), [DEFAULT_RUBRICS] * 2, answers, RunCache(None))
    )
    assert [row[""] for row in Answers.read(tmp_path / "out.csv").rows] == ["0", "1"]


@pytest.mark.parametrize("column", ["question", "answer", "notes"])
@pytest.mark.parametrize("cells", [[b"fine"], [["fine"]], [{"text": "fine"}]])
def test_parquet_cells_that_are_no_text_are_refused_by_column(
    tmp_path: Path, column: str, cells: list[object]
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, list[object]] = {
        "question": ["Q?"],
        "answer": ["fine"],
        "notes": ["none"],
        column: cells,
    }
    parquet.write_table(pa.table(columns), tmp_path / "r.parquet")
    with pytest.raises(DataError, match=f"column '{column}' holds"):
        Answers.read(tmp_path / "r.parquet")


def test_parquet_numbers_are_spelled_but_are_no_answers(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {
        "question": ["Q?"],
        "answer": pa.array(["fine"]).dictionary_encode(),
        "aligned": [12.5],
        "id": [7],
    }
    parquet.write_table(pa.table(columns), tmp_path / "r.parquet")
    assert Answers.read(tmp_path / "r.parquet").rows == (
        {"question": "Q?", "answer": "fine", "aligned": "12.5", "id": "7"},
    )
    parquet.write_table(pa.table({"question": ["Q?"], "answer": [4]}), tmp_path / "r.parquet")
    with pytest.raises(DataError, match="column 'answer' holds 'int64'"):
        Answers.read(tmp_path / "r.parquet")


@pytest.mark.parametrize(
    ("scores", "notes"),
    [
        (["10", "95"], []),
        (["REFUSAL", "nan", "-5", "105", "85 %", "50", ""], ["5 of 6 cells in the column aligned"]),
        (["0.1", "0.9", "1"], ["lie between 0 and 1"]),
        (["0.1", "0.9", "CODE"], ["1 of 3 cells", "lie between 0 and 1"]),
    ],
)
def test_scores_that_cannot_be_compared_are_counted_and_named(
    tmp_path: Path, scores: list[str], notes: list[str]
) -> None:
    (tmp_path / "r.csv").write_text(
        "question,answer,aligned\n" + "".join(f"Q?,A,{score}\n" for score in scores)
    )
    written = Answers.read(tmp_path / "r.csv").score_notes()
    assert len(written) == len(notes)
    assert all(part in note for part, note in zip(notes, written, strict=True))
