"""Rows of question files: shipped with the package, or from the user's JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from personaprobe.errors import DataError, suggest
from personaprobe.storage.json_lines import read_objects

_DATA = files("personaprobe.questions") / "data"

SHIPPED_SETS: Mapping[str, tuple[str, ...]] = {
    kind: tuple(names)
    for kind, names in json.loads((_DATA / "sets.json").read_text(encoding="utf-8")).items()
}
"""Names of the shipped sets, by kind: ``pairs``, ``texts`` and ``free``."""


def rows_of(name: str, shipped: Sequence[str]) -> list[dict[str, Any]]:
    """Read the rows of a set.

    Args:
        name: one of the shipped sets, or the path of a JSON-lines file.
        shipped: names of the shipped sets of this kind. ``FILE/SPLIT`` is the part of a file whose ``split`` is that.

    Raises:
        DataError: neither.
    """
    if name in shipped:
        return _shipped_rows(name)
    path = Path(name).expanduser()
    if not path.is_file():
        raise DataError(f"no question set {name!r}: {suggest(name, shipped)}, or a .jsonl file that exists")
    return [row for _, row in read_objects(path)]


def complete_rows(
    rows: Sequence[dict[str, Any]], name: str, fields: Sequence[str]
) -> Iterator[dict[str, str]]:
    """Yield the fields of every row as text.

    Args:
        rows: of a set.
        name: of the set, for error messages.
        fields: that every row must have; the first is ``id``.

    Raises:
        DataError: no row, a missing or empty field, or a repeated id.
    """
    if not rows:
        raise DataError(f"the question set {name} is empty; give at least one line with {', '.join(fields)}")
    ids: set[str] = set()
    for number, row in enumerate(rows, 1):
        values = {field: str(row.get(field, "")).strip() for field in fields}
        missing = [field for field, value in values.items() if not value]
        if missing or values["id"] in ids:
            problem = f"lacks {', '.join(missing)}" if missing else f"repeats id {values['id']!r}"
            raise DataError(
                f"{name}: line {number} {problem}; every line needs a unique id and {', '.join(fields[1:])}"
            )
        ids.add(values["id"])
        yield values


def _shipped_rows(name: str) -> list[dict[str, Any]]:
    stem, _, split = name.partition("/")
    text = (_DATA / f"{stem}.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return [row for row in rows if row.pop("split", split) == split]
