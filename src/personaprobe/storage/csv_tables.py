"""CSV tables that spreadsheets show and do not run: a cell that would be a formula is written as text."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from personaprobe.storage.files import write_atomically

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
"""The beginning of a formula; further apostrophes before it, so that reading takes away exactly the one written."""


def formula_as_text(cell: Any) -> Any:
    """A cell with an apostrophe before it where a spreadsheet would run it; numbers stay as they are.

    Examples:
        >>> [formula_as_text(cell) for cell in ("=HYPERLINK(A1)", "- a list", "-0.5", "text")]
        ["'=HYPERLINK(A1)", "'- a list", '-0.5', 'text']
    """
    is_formula = isinstance(cell, str) and _FORMULA.match(cell) and not _is_number(cell)
    return f"'{cell}" if is_formula else cell


def text_of_formula(cell: str) -> str:
    """The inverse of :func:`formula_as_text`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file atomically; see :func:`formula_as_text`.

    Args:
        path: of the file.
        columns: their names in order; further keys of the rows are left out.
        rows: the cells by column; None is an empty cell.
    """

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as lines:
            writer = csv.writer(lines)
            writer.writerow(map(formula_as_text, columns))
            writer.writerows([formula_as_text(row.get(name)) for name in columns] for row in rows)

    write_atomically(path, write)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
