"""Rows of question files: shipped with the package, or from the user's JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, TypeAlias

from personaprobe.errors import DataError, one_line, shortened, suggest
from personaprobe.questions.foreign_text import foreign_layout, plain_text, refuse_unread
from personaprobe.storage.json_lines import read_objects
from personaprobe.storage.paths import is_file, user_path

_DATA = files("personaprobe.questions") / "data"

SHIPPED_SETS: Mapping[str, tuple[str, ...]] = {
    kind: tuple(names)
    for kind, names in json.loads((_DATA / "sets.json").read_text(encoding="utf-8")).items()
}
"""Names of the shipped sets, by kind: ``pairs``, ``texts`` and ``free``."""


PlacedRow: TypeAlias = tuple[str, dict[str, Any]]
"""A row with its place (``file:line``)."""


def rows_of(name: str, shipped: Sequence[str]) -> list[PlacedRow]:
    """Read the rows of a set, each with its place.

    Args:
        name: one of the shipped sets, or the path of a JSON-lines file.
        shipped: names of the shipped sets of this kind. ``FILE/SPLIT`` is the part of a file whose ``split`` is that.

    Raises:
        DataError: neither.
    """
    if name in shipped:
        return _shipped_rows(name)
    path = user_path(name)
    if not is_file(path):
        raise DataError(
            f"no question set {shortened(name)}: {suggest(name, shipped)}, or a .jsonl file that exists"
        )
    return list(read_objects(path))


def complete_rows(
    rows: Sequence[PlacedRow], name: str, fields: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[dict[str, str]]:
    """Yield the fields of every row as text, without blanks around it.

    Args:
        rows: of a set, with their places.
        name: of the set, for error messages.
        fields: that every row must have; the first is ``id``, which may be a whole number.
        optional: fields that a row may have.

    Raises:
        DataError: no row, a missing field, one that is not text, one that is not read, or a repeated id.
    """
    if not rows:
        raise DataError(f"the question set {name} is empty; give at least one line with {', '.join(fields)}")
    ids: set[str] = set()
    for place, row in rows:
        missing = [field for field in fields if field not in row]
        if missing:
            layout = foreign_layout(row)
            instead = f"; it has {shortened(list(row))}" + (f" ({layout})" if layout else "")
            raise DataError(f"{one_line(place)} lacks {', '.join(missing)}{instead}")
        refuse_unread(row, place, (*fields, *optional))
        values = {"id": _id(row["id"], place)} if "id" in fields else {}
        for field in (*fields, *(field for field in optional if field in row)):
            values.setdefault(field, plain_text(row[field], place, field).strip() if field != "id" else "")
        if "id" in fields and values["id"] in ids:
            raise DataError(
                f"{one_line(place)} repeats id {shortened(values['id'])}; give every line its own"
            )
        ids.add(values.get("id", ""))
        yield values


def _id(value: Any, place: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return plain_text(value, place, "id").strip()


def _shipped_rows(name: str) -> list[PlacedRow]:
    stem, _, split = name.partition("/")
    text = (_DATA / f"{stem}.jsonl").read_text(encoding="utf-8")
    rows = [(f"{name}:{number}", json.loads(line)) for number, line in enumerate(text.splitlines(), 1)]
    return [(place, row) for place, row in rows if row.pop("split", split) == split]
