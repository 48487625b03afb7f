"""Answers in a results file (CSV, Parquet, or a run folder), read and written with their judgements."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from personaprobe.effects.judges.agreement import Agreement, agreement
from personaprobe.effects.judges.judgement import Scored
from personaprobe.effects.judges.rates import JUDGED_COLUMNS, SCORES, Judged
from personaprobe.errors import DataError
from personaprobe.storage.files import write_atomically

COLUMNS = ("question", "answer")
"""Columns that a results file must have."""

ColumnsAndRows: TypeAlias = tuple[tuple[str, ...], tuple[Mapping[str, str], ...]]


@dataclass(frozen=True)
class Answers:
    """The rows of a results file.

    Attributes:
        columns: of the file, in order.
        rows: every cell as text.
    """

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]

    @classmethod
    def read(cls, path: Path) -> Answers:
        """Read a CSV or Parquet file, or a run folder, with at least ``question`` and ``answer``; all columns are kept.

        Raises:
            DataError: no such file, not UTF-8, a missing column, no row, or a row of another length; names the line.
        """
        path = _of_run(path) if path.is_dir() else path
        if not path.is_file():
            raise DataError(f"no results file at {path}; give a CSV with the columns question and answer")
        columns, rows = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
        for name in COLUMNS:
            if name not in columns:
                raise DataError(
                    f"{path} lacks the column {name!r}; it has {', '.join(columns) or 'none'}: give question and answer"
                )
        if not rows:
            raise DataError(f"{path} holds no answer; give a row for each")
        return cls(columns, rows)

    def write(self, path: Path, judged: Sequence[Judged]) -> None:
        """Write the rows as CSV, with the judgement columns at the end.

        Scores of another judge in the columns ``aligned`` and ``coherent`` are kept as ``aligned_before`` and
        ``coherent_before``.
        """
        before = {name: f"{name}_before" for name in SCORES if name in self.columns}
        columns = dict.fromkeys(
            name for name in (*self.columns, *before.values()) if name not in JUDGED_COLUMNS
        )

        def write_rows(target: Path) -> None:
            with target.open("w", encoding="utf-8", newline="") as lines:
                writer = csv.DictWriter(lines, [*columns, *JUDGED_COLUMNS], extrasaction="ignore")
                writer.writeheader()
                for row, answer in zip(self.rows, judged, strict=True):
                    former = {column: row[name] for name, column in before.items()}
                    writer.writerow({**row, **former, **answer.cells()})

        write_atomically(path, write_rows)

    def agreement(self, judged: Sequence[Judged]) -> Agreement | None:
        """Agreement with another judge's scores in the column ``aligned``; None if no answer has both."""
        both = [
            (answer.aligned.score, theirs)
            for answer, row in zip(judged, self.rows, strict=True)
            if isinstance(answer.aligned, Scored) and (theirs := _score(row.get("aligned", ""))) is not None
        ]
        return agreement([ours for ours, _ in both], [theirs for _, theirs in both]) if both else None

    def grouped(self, judged: Sequence[Judged], by: str | None = None) -> dict[str, list[Judged]]:
        """Judgements by the value of a column.

        Args:
            judged: of each row.
            by: the column; None is ``group`` or ``arm``, whichever comes first, else all rows form the group ``all``.
        """
        column = by or next((name for name in ("group", "arm") if name in self.columns), "group")
        groups: dict[str, list[Judged]] = {}
        for row, answer in zip(self.rows, judged, strict=True):
            groups.setdefault(row.get(column) or "all", []).append(answer)
        return groups


def _of_run(folder: Path) -> Path:
    """The answers in a run folder: of an evaluation, or of an ablation study."""
    files = [folder / name for name in ("answers.parquet", "responses.parquet") if (folder / name).is_file()]
    if not files:
        raise DataError(
            f"{folder} holds neither answers.parquet nor responses.parquet; give the folder of a finished run"
        )
    return files[0]


def _read_csv(path: Path) -> ColumnsAndRows:
    csv.field_size_limit(2**31 - 1)
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, restkey="", strict=True)
            columns = tuple(reader.fieldnames or ())
            return columns, tuple(_complete(row, f"{path}, line {reader.line_num}") for row in reader)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file: {error}") from error


def _read_parquet(path: Path) -> ColumnsAndRows:
    from pyarrow import ArrowInvalid, parquet

    try:
        table = parquet.read_table(path)
    except ArrowInvalid as error:
        raise DataError(f"{path} is not a Parquet file: {error}") from error
    rows = (
        {name: "" if cell is None else str(cell) for name, cell in row.items()} for row in table.to_pylist()
    )
    return tuple(table.column_names), tuple(rows)


def _complete(row: dict[str, Any], where: str) -> dict[str, str]:
    if "" in row or None in row.values():
        raise DataError(f"{where} has another number of fields than the header; quote texts that hold commas")
    return row


def _score(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 100 else None
