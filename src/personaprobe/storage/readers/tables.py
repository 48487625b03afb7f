"""Tables of strangers: CSV as text, and Parquet, read in batches whose total size is bounded."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from personaprobe.errors import DataError, one_line, shortened
from personaprobe.storage.readers.opening import MIB, ErrorClass, opened, refusing, regular_file

LARGEST_TABLE = 1024 * MIB
"""Bytes of a CSV file."""

LONGEST_CELL = 16 * MIB
"""Bytes of one cell of a CSV file."""

MOST_ROWS = 2_000_000
"""Rows of a table that is read as text."""

LARGEST_EXPANSION = 8 * 1024 * MIB
"""Bytes of a Parquet table in memory; its pages may be packed many thousand fold."""

_BATCH = 512
"""Rows that are unpacked before their size is looked at."""

_SEPARATORS = {";": "a semicolon", "\t": "a tab", "|": "a bar"}


@dataclass(frozen=True)
class TextTable:
    """A table whose cells are text.

    Attributes:
        columns: names in order; the first may be empty, which is how pandas writes the index of its rows.
        rows: cells by column.
    """

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]


def read_csv(path: Path, error: ErrorClass = DataError) -> TextTable:
    """Read a CSV file with a header; a first column without a name is the index of a pandas table, and stays.

    Raises:
        PersonaProbeError: of the class ``error``: it cannot be read, is not UTF-8 or not CSV, names a column twice or not
            at all, is separated by other characters than commas, or has a row of another length; names the line.
    """
    csv.field_size_limit(LONGEST_CELL)
    with opened(path, error, LARGEST_TABLE) as stream:
        rows = _csv_rows(stream, path, error)
        columns = next(rows, (0, []))[1]
        _check_columns(columns, path, error)
        return TextTable(tuple(columns), tuple(_cells(rows, columns, path, error)))


def _csv_rows(stream: IO[bytes], path: Path, error: ErrorClass) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of their last line; empty lines are skipped."""
    lines = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    reader = csv.reader(lines, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except UnicodeDecodeError as cause:
        raise error(f"{one_line(path)} is not UTF-8 text ({cause.reason}); save it as UTF-8") from cause
    except csv.Error as cause:
        raise error(f"{one_line(path)}, line {reader.line_num} is not CSV: {one_line(cause)}") from cause


def _check_columns(columns: Sequence[str], path: Path, error: ErrorClass) -> None:
    place = one_line(path)
    for character, name in _SEPARATORS.items():
        if len(columns) == 1 and character in columns[0]:
            raise error(f"{place}: the columns are separated by {name}; save it with commas")
    for index, name in enumerate(columns):
        if not name.strip() and (index > 0 or len(columns) == 1):
            raise error(
                f"{place}: column {index + 1} of the header has no name; remove it, or a comma at the end of lines"
            )
        if name in columns[:index]:
            raise error(f"{place} has the column {shortened(name)} twice; give every column its own name")


def _cells(
    rows: Iterator[tuple[int, list[str]]], columns: Sequence[str], path: Path, error: ErrorClass
) -> Iterator[dict[str, str]]:
    for n_rows, (line, row) in enumerate(rows, 1):
        if n_rows > MOST_ROWS:
            raise error(f"{one_line(path)} has more than {MOST_ROWS:,} rows; give it in parts")
        if len(row) != len(columns):
            raise error(
                f"{one_line(path)}, line {line} has another number of fields than the header ({len(row)}, not "
                f"{len(columns)}); quote texts that hold commas"
            )
        yield dict(zip(columns, row, strict=True))


def read_parquet(
    path: Path,
    error: ErrorClass = DataError,
    *,
    columns: Sequence[str] | None = None,
    advice: str = "",
    max_rows: int | None = None,
    max_bytes: int = LARGEST_EXPANSION,
) -> Any:
    """Read a Parquet file as a pyarrow table.

    Args:
        path: of the file.
        error: the class to raise.
        columns: the only ones that are read, where the file has them.
        advice: what to do about a file that cannot be used.
        max_rows: most rows; None does not count them.
        max_bytes: most bytes of the table in memory.

    Raises:
        PersonaProbeError: of the class ``error``: it cannot be read, is no Parquet file or a damaged one, names a column
            twice, or is too large.
    """
    import pyarrow as pa
    from pyarrow import parquet

    regular_file(path, error)
    with refusing(path, "a Parquet file", error, advice), parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        for index, name in enumerate(schema.names):
            if name in schema.names[:index]:
                raise error(
                    f"{one_line(path)} has the column {shortened(name)} twice; give every column its own name"
                )
        if max_rows is not None and file.metadata.num_rows > max_rows:
            raise error(
                f"{one_line(path)} has {file.metadata.num_rows:,} rows, and at most {max_rows:,} are read"
            )
        batches, n_bytes = [], 0
        for batch in file.iter_batches(_BATCH, columns=columns, use_threads=False):
            n_bytes += batch.nbytes
            if n_bytes > max_bytes:
                raise error(f"{one_line(path)} unpacks to more than {max_bytes:,} bytes; give it in parts")
            batches.append(batch)
        if columns is not None:
            schema = pa.schema([field for field in schema if field.name in columns])
        table = pa.Table.from_batches(batches, None if batches else schema)
        table.validate(full=True)
        if table.num_rows != file.metadata.num_rows:
            raise ValueError(f"it says {file.metadata.num_rows} rows and holds {table.num_rows}")
        return table
