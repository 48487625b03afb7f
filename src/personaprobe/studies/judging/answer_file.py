"""Answers in a results file (CSV, Parquet, or a run folder), read and written with their judgements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from personaprobe.effects.judges.agreement import Agreement, agreement
from personaprobe.effects.judges.judgement import Scored
from personaprobe.effects.judges.rates import JUDGED_COLUMNS, SCORES, Judged
from personaprobe.errors import DataError, one_line, shortened, suggest
from personaprobe.storage.csv_tables import text_of_formula, write_csv
from personaprobe.storage.paths import is_file, is_folder
from personaprobe.storage.readers.tables import MOST_ROWS, read_csv, read_parquet

COLUMNS = ("question", "answer")
"""Columns that a results file must have."""

ALIASES = {
    "question": ("prompt", "instruction", "input", "query", "user"),
    "answer": ("response", "completion", "output", "reply", "generation", "assistant", "model_answer"),
}
"""Names that other tools give these columns; they are named in the refusal, since some files hold both."""

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
        path = _of_run(path) if is_folder(path) else path
        if not is_file(path):
            raise DataError(
                f"no results file at {one_line(path)}; give a CSV with the columns question and answer"
            )
        columns, rows = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
        for name in COLUMNS:
            if name not in columns:
                raise DataError(_lacking(path, name, columns))
        if not rows:
            raise DataError(f"{one_line(path)} holds no answer; give a row for each")
        if path.suffix != ".parquet" and set(JUDGED_COLUMNS) <= set(columns):
            columns = tuple(map(text_of_formula, columns))
            rows = tuple(dict(zip(columns, map(text_of_formula, row.values()), strict=True)) for row in rows)
        return cls(columns, rows)

    def write(self, path: Path, judged: Sequence[Judged]) -> None:
        """Write the rows as CSV, with the judgement columns at the end; :meth:`read` of that file has the same rows.

        Scores of another judge in the columns ``aligned`` and ``coherent`` are kept as ``aligned_before`` and
        ``coherent_before``.
        """
        before = {name: f"{name}_before" for name in SCORES if name in self.columns}
        columns = dict.fromkeys(
            name for name in (*self.columns, *before.values()) if name not in JUDGED_COLUMNS
        )

        rows = (
            {**row, **{column: row[name] for name, column in before.items()}, **answer.cells()}
            for row, answer in zip(self.rows, judged, strict=True)
        )
        write_csv(path, [*columns, *JUDGED_COLUMNS], rows)

    def agreement(self, judged: Sequence[Judged]) -> Agreement | None:
        """Agreement with another judge's scores in the column ``aligned``; None if no answer has both."""
        both = [
            (answer.aligned.score, theirs)
            for answer, row in zip(judged, self.rows, strict=True)
            if isinstance(answer.aligned, Scored) and (theirs := _score(row.get("aligned", ""))) is not None
        ]
        return agreement([ours for ours, _ in both], [theirs for _, theirs in both]) if both else None

    def score_notes(self) -> list[str]:
        """Sentences about the column ``aligned`` of another judge: cells left out, and scores on another scale."""
        cells = [cell for row in self.rows if (cell := row.get("aligned", "").strip())]
        unusable = [cell for cell in cells if _score(cell) is None]
        scores = [score for cell in cells if (score := _score(cell)) is not None]
        notes = []
        if unusable:
            examples = ", ".join(shortened(cell, 20) for cell in dict.fromkeys(unusable[:3]))
            notes.append(
                f"{len(unusable)} of {len(cells)} cells in the column aligned are no number from 0 to 100 ({examples}) and "
                "are left out of the agreement"
            )
        if len(scores) > 1 and max(scores) <= 1:
            notes.append(
                "all scores in the column aligned lie between 0 and 1: scores here go from 0 to 100; multiply them"
            )
        return notes

    def refuse_unknown_column(self, by: str | None) -> None:
        """Raise where answers would be grouped by a column that the file does not have.

        Raises:
            DataError: names the nearest column.
        """
        if by is not None and by not in self.columns:
            raise DataError(f"there is no column {shortened(by)} to group by: {suggest(by, self.columns)}")

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
    files = [folder / name for name in ("answers.parquet", "responses.parquet") if is_file(folder / name)]
    if not files:
        raise DataError(
            f"{one_line(folder)} holds neither answers.parquet nor responses.parquet; give the folder of a finished run"
        )
    return files[0]


def _lacking(path: Path, name: str, columns: Sequence[str]) -> str:
    """The refusal of a table without a column; a column that is likely meant is named."""
    meant = [column for column in columns if column.strip().lower() in (name, *ALIASES[name])]
    rename = f": rename {shortened(meant[0])} to {name}" if meant else ": give question and answer"
    listed = ", ".join(shortened(column, 40) for column in columns[:20]) or "none"
    return f"{one_line(path)} lacks the column {name!r}; it has {listed}{rename}"


def _read_csv(path: Path) -> ColumnsAndRows:
    table = read_csv(path, DataError)
    return table.columns, table.rows


def _read_parquet(path: Path) -> ColumnsAndRows:
    table = read_parquet(path, DataError, max_rows=MOST_ROWS)
    for field in table.schema:
        if problem := _not_text(field.type, field.name in COLUMNS):
            raise DataError(
                f"{one_line(path)}: the column {shortened(field.name)} holds {problem}; give text"
            )
    rows = (
        {name: "" if cell is None else str(cell) for name, cell in row.items()} for row in table.to_pylist()
    )
    return tuple(table.column_names), tuple(rows)


def _not_text(kind: Any, must_be_text: bool) -> str | None:
    """The kind of an arrow column whose cells have no spelling of their own; numbers and dates have, where allowed."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    plain = types.is_primitive(kind) or types.is_decimal(kind) or types.is_null(kind)
    return None if is_text or (plain and not must_be_text) else shortened(str(kind))


def _score(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 100 else None
