"""Judging answers that are already there: whatever model or tool gave them, each judged once and remembered."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from personaprobe.effects.judgement import Judgement, Scored, Unscored
from personaprobe.effects.judges import Case, Judge
from personaprobe.effects.rates import Judged
from personaprobe.effects.rubrics import Rubric
from personaprobe.errors import DataError
from personaprobe.models.files import write_whole
from personaprobe.studies.memory import Memory, digest_of
from personaprobe.studies.progress import Progress, silent

COLUMNS = ("question", "answer")
SCORES = ("aligned", "coherent")
CHARACTERS_A_TOKEN = 4.0


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
        """Read a CSV with at least ``question`` and ``answer``; further columns are kept.

        Raises:
            DataError: no such file, not UTF-8, a missing column, no row, or a row of another length; names the line.
        """
        if not path.is_file():
            raise DataError(f"no results file at {path}; give a CSV with the columns question and answer")
        csv.field_size_limit(2**31 - 1)
        try:
            with path.open(encoding="utf-8-sig", newline="") as lines:
                reader = csv.DictReader(lines, restkey="", strict=True)
                columns = tuple(reader.fieldnames or ())
                rows = tuple(_whole(row, f"{path}, line {reader.line_num}") for row in reader)
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
        except csv.Error as error:
            raise DataError(f"{path} is not a CSV file: {error}") from error
        for name in COLUMNS:
            if name not in columns:
                raise DataError(
                    f"{path} lacks the column {name!r}; it has {', '.join(columns) or 'none'}: give question and answer"
                )
        if not rows:
            raise DataError(f"{path} holds no answer; give a row for each")
        return cls(columns, rows)

    def write(self, path: Path, judged: Sequence[Judged]) -> None:
        """Write the rows with ``aligned`` and ``coherent``, and why either is missing."""
        added = ("aligned", "aligned_unscored", "coherent", "coherent_unscored")
        columns = [*(name for name in self.columns if name not in added), *added]

        def written(place: Path) -> None:
            with place.open("w", encoding="utf-8", newline="") as lines:
                writer = csv.DictWriter(lines, columns, extrasaction="ignore")
                writer.writeheader()
                writer.writerows({**row, **_cells(each)} for row, each in zip(self.rows, judged, strict=True))

        write_whole(path, written)


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
    """Have every case judged once; what was judged before, by the same judge and rubric, is remembered."""
    specs = [_spec(judge, case) for case in cases]
    fresh = {
        digest_of(spec): index for index, spec in enumerate(specs) if not memory.knows(spec)
    }  # one index for cases that are the same
    with progress("judging", len(cases), "judgements") as advance:
        advance(len(cases) - len(fresh))
        made: dict[str, dict[str, Any]] = {}
        for (digest, index), judgement in zip(
            fresh.items(), judge.judge([cases[index] for index in fresh.values()]), strict=True
        ):
            made[digest] = memory.recall(specs[index], partial(dict, vars(judgement)))
            advance(1)
    kept = [made.get(digest_of(spec)) or memory.recall(spec, dict) for spec in specs]
    return [Unscored(each["reason"]) if "reason" in each else Scored(each["score"]) for each in kept]


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
