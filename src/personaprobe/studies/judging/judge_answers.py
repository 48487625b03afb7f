"""Judging answers that are already there: whatever model or tool gave them, each judged once and remembered."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from personaprobe.effects.judges.agreement import Agreement, agreement
from personaprobe.effects.judges.judge import Case, Judge
from personaprobe.effects.judges.judgement import Judgement, Scored, Unscored
from personaprobe.effects.judges.rates import Judged
from personaprobe.effects.judges.rubrics import OWN, Rubric
from personaprobe.effects.measures.responses import Response
from personaprobe.errors import DataError
from personaprobe.progress import Progress, silent
from personaprobe.storage.files import write_whole
from personaprobe.storage.run_cache import Memory, digest_of

COLUMNS = ("question", "answer")
SCORES = ("aligned", "coherent")
CHARACTERS_A_TOKEN = 4.0

Read: TypeAlias = tuple[tuple[str, ...], tuple[Mapping[str, str], ...]]
"""Columns of a file in order, and its rows."""


@dataclass(frozen=True)
class Answers:
    """Answers of a results file.

    Attributes:
        columns: of the file, in order.
        rows: every cell as text.
    """

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]

    @classmethod
    def read(cls, path: Path) -> Answers:
        """Read a CSV or Parquet file, or a run folder, with at least ``question`` and ``answer``; other columns are kept.

        Raises:
            DataError: no such file, not UTF-8, a missing column, no row, or a row of another length; names the line.
        """
        path = _of_run(path) if path.is_dir() else path
        if not path.is_file():
            raise DataError(f"no results file at {path}; give a CSV with the columns question and answer")
        columns, rows = _parquet(path) if path.suffix == ".parquet" else _csv(path)
        for name in COLUMNS:
            if name not in columns:
                raise DataError(
                    f"{path} lacks the column {name!r}; it has {', '.join(columns) or 'none'}: give question and answer"
                )
        if not rows:
            raise DataError(f"{path} holds no answer; give a row for each")
        return cls(columns, rows)

    def write(self, path: Path, judged: Sequence[Judged]) -> None:
        """Write the rows with ``aligned`` and ``coherent``, and why either is missing; scores they had before are kept."""
        added = ("aligned", "aligned_unscored", "coherent", "coherent_unscored")
        before = {name: f"{name}_before" for name in SCORES if name in self.columns}
        kept = dict.fromkeys(name for name in (*self.columns, *before.values()) if name not in added)
        columns = [*kept, *added]

        def written(place: Path) -> None:
            with place.open("w", encoding="utf-8", newline="") as lines:
                writer = csv.DictWriter(lines, columns, extrasaction="ignore")
                writer.writeheader()
                for row, each in zip(self.rows, judged, strict=True):
                    former = {later: row[name] for name, later in before.items()}
                    writer.writerow({**row, **former, **_cells(each)})

        write_whole(path, written)

    def agreement(self, judged: Sequence[Judged]) -> Agreement | None:
        """How well judgements agree with another judge's scores in the column ``aligned``; None where there are none."""
        both = [
            (mine.aligned.score, theirs)
            for mine, row in zip(judged, self.rows, strict=True)
            if isinstance(mine.aligned, Scored) and (theirs := _score(row.get("aligned", ""))) is not None
        ]
        return agreement([mine for mine, _ in both], [theirs for _, theirs in both]) if both else None


def _of_run(folder: Path) -> Path:
    """The answers of a run folder: an evaluation's, or an ablation study's."""
    found = [folder / name for name in ("answers.parquet", "responses.parquet") if (folder / name).is_file()]
    if not found:
        raise DataError(
            f"{folder} holds neither answers.parquet nor responses.parquet; give the folder of a finished run"
        )
    return found[0]


def _csv(path: Path) -> Read:
    csv.field_size_limit(2**31 - 1)
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, restkey="", strict=True)
            columns = tuple(reader.fieldnames or ())
            return columns, tuple(_whole(row, f"{path}, line {reader.line_num}") for row in reader)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file: {error}") from error


def _parquet(path: Path) -> Read:
    from pyarrow import ArrowInvalid, parquet

    try:
        table = parquet.read_table(path)
    except ArrowInvalid as error:
        raise DataError(f"{path} is not a Parquet file: {error}") from error
    rows = (
        {name: "" if cell is None else str(cell) for name, cell in row.items()} for row in table.to_pylist()
    )
    return tuple(table.column_names), tuple(rows)


def _score(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 100 else None


def judge_answers(
    judge: Judge,
    rubrics: Sequence[Mapping[str, Rubric]],
    answers: Answers,
    memory: Memory,
    progress: Progress = silent,
) -> list[Judged]:
    """Have every answer of a file judged.

    Args:
        judge: who.
        rubrics: of each answer, ``aligned`` and ``coherent``.
        answers: what.
        memory: of finished judgements; an interrupted run resumes there.
        progress: how long work shows itself.
    """
    cases = [
        Case(of[name], row["question"], row["answer"])
        for of, row in zip(rubrics, answers.rows, strict=True)
        for name in SCORES
    ]
    told = judge_all(judge, cases, memory, progress)
    return [Judged(aligned, coherent) for aligned, coherent in zip(told[::2], told[1::2], strict=True)]


def judge_all(
    judge: Judge, cases: Sequence[Case], memory: Memory, progress: Progress = silent
) -> list[Judgement]:
    """Have every case judged once; what was judged before, by the same judge and rubric, is remembered.

    Answers to the same question come to the judge one after another, whoever gave them.
    """
    specs = [_spec(judge, case) for case in cases]
    digests = [digest_of(spec) for spec in specs]
    place = {question: index for index, question in enumerate(dict.fromkeys(case.question for case in cases))}
    distinct = dict(zip(digests, zip(cases, specs, strict=True), strict=True)).values()  # the same are one
    ordered = sorted(distinct, key=lambda each: place[each[0].question])
    with memory.journal("judgements") as journal, progress("judging", len(ordered), "judgements") as advance:
        due: list[tuple[Case, dict[str, Any]]] = []
        for start in range(0, len(ordered), judge.at_a_time):
            together = ordered[start : start + judge.at_a_time]
            if all(spec in journal for _, spec in together):
                advance(len(together))
            else:
                due += together
        judged = judge.judge([case for case, _ in due])
        for (_, spec), judgement in zip(due, judged, strict=True):
            journal.add(spec, vars(judgement))
            advance(1)
    return [_recalled(journal[spec]) for spec in specs]


def _recalled(kept: Mapping[str, Any]) -> Judgement:
    return Unscored(kept["reason"]) if "reason" in kept else Scored(kept["score"])


def judge_responses(
    judge: Judge, heard: Sequence[Sequence[Response]], memory: Memory, progress: Progress = silent
) -> list[list[Judged]]:
    """Every arm's answers judged. The judge is given them in one row, without the arms' names."""
    cases = [
        Case(OWN[name], response.question, response.answer)
        for own in heard
        for response in own
        for name in SCORES
    ]
    told = iter(judge_all(judge, cases, memory, progress))
    return [[Judged(next(told), next(told)) for _ in own] for own in heard]


def tokens_asked(rubrics: Sequence[Mapping[str, Rubric]], answers: Answers) -> int:
    """About how many tokens the judge will read, at four characters a token."""
    asked = (
        len(rubric.ask(row["question"], row["answer"]))
        for of, row in zip(rubrics, answers.rows, strict=True)
        for rubric in of.values()
    )
    return round(sum(asked) / CHARACTERS_A_TOKEN)


def _spec(judge: Judge, case: Case) -> dict[str, Any]:
    content = hashlib.sha256(f"{case.question}\0{case.answer}".encode()).hexdigest()
    return {"part": "judgement", "judge": judge.name, "rubric": case.rubric.digest, "content": content}


def _cells(judged: Judged) -> dict[str, Any]:
    return {
        cell: value
        for name, judgement in zip(SCORES, (judged.aligned, judged.coherent), strict=True)
        for cell, value in _spelled(name, judgement)
    }


def _spelled(name: str, judgement: Judgement) -> Iterator[tuple[str, Any]]:
    yield name, judgement.score if isinstance(judgement, Scored) else ""
    yield f"{name}_unscored", judgement.reason if isinstance(judgement, Unscored) else ""


def _whole(row: dict[str, Any], where: str) -> dict[str, str]:
    if "" in row or None in row.values():
        raise DataError(f"{where} has another number of fields than the header; quote texts that hold commas")
    return row
