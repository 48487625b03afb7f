"""Rows of question files, shipped or users' own: text is taken as it stands, and what would be lost is refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, TypeAlias

from personaprobe.errors import DataError, one_line, shortened, suggest
from personaprobe.storage.paths import is_file, user_path
from personaprobe.storage.readers.json_lines import read_objects

_DATA = files("personaprobe.questions") / "data"

SHIPPED_SETS: Mapping[str, tuple[str, ...]] = {
    kind: tuple(names)
    for kind, names in json.loads((_DATA / "sets.json").read_text(encoding="utf-8")).items()
}
"""Names of the shipped sets, by kind: ``pairs``, ``texts`` and ``free``."""


PlacedRow: TypeAlias = tuple[str, dict[str, Any]]
"""A row with its place (``file:line``)."""

UNREAD = frozenset(
    [
        "author",
        "category",
        "comment",
        "dataset",
        "date",
        "difficulty",
        "hash",
        "id",
        "index",
        "kind",
        "label",
        "language",
        "licence",
        "license",
        "meta",
        "metadata",
        "note",
        "notes",
        "origin",
        "source",
        "split",
        "tags",
        "topic",
        "url",
        "uuid",
        "version",
    ]
)
"""Fields of any row that nobody reads and that change no prompt; so are those that begin with an underscore."""

CONTROL = re.compile(
    r"<\|[A-Za-z][\w-]*\|>|</?(?:start|end)_of_turn>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>"
)
"""Marks by which chat templates begin and end turns; in data they would become the tokens themselves."""

LAYOUTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("conversations",), "ShareGPT's layout"),
    (("prompt", "completion"), "the layout of completions"),
    (("prompt", "response"), "the layout of completions"),
    (("prompt", "chosen"), "the layout of preference data"),
    (("instruction", "output"), "Alpaca's layout"),
    (("messages",), "the layout of conversations"),
    (("text",), "the layout of plain texts"),
    (("question", "answer"), "the layout of questions and answers"),
)
"""Fields by which files of other tools are recognised, with the name of their layout."""


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


def plain_text(value: Any, place: str, name: str) -> str:
    """The text of a field: a text, or a list of parts that are all text, which are joined.

    Args:
        value: of the field.
        place: of the row, for error messages.
        name: of the field.

    Raises:
        DataError: another type (it is never converted), blank text, or text that spells a chat template's mark.
    """
    if isinstance(value, list) and value:
        value = "".join(_part(part, place, name) for part in value)
    if not isinstance(value, str):
        raise DataError(f"{one_line(place)}: {name} is {shortened(value)}; give text")
    if not value.strip():
        raise DataError(f"{one_line(place)}: {name} is blank; give text, or leave the row out")
    if mark := CONTROL.search(value):
        raise DataError(
            f"{one_line(place)}: {name} spells {mark[0]!r}, a mark of chat templates, which would become the token "
            "itself; remove it, or give each turn as a message of its own"
        )
    return value


def _part(part: Any, place: str, name: str) -> str:
    if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise DataError(
            f"{one_line(place)}: {name} has the part {shortened(part)}; parts are {{'type': 'text', 'text': …}}"
        )
    return str(part["text"])


def refuse_unread(row: Mapping[str, Any], place: str, known: Collection[str], advice: str = "") -> None:
    """Raise where a row has a field that is neither read nor known to be harmless.

    Args:
        row: of a file.
        place: of the row, for error messages.
        known: the fields that are read.
        advice: what to do about it.

    Raises:
        DataError: names the field and the nearest known one; names the layout of another tool.
    """
    for name in row:
        if name in known or name in UNREAD or name.startswith("_"):
            continue
        then = f"; {advice}" if advice else "; remove it, or begin its name with _ to have it left unread"
        raise DataError(
            f"{one_line(place)} has the field {shortened(name)}, which is not read here: {suggest(name, known)}{then}"
        )


def foreign_layout(row: Mapping[str, Any]) -> str | None:
    """The name of the layout in which another tool wrote a row; None where it is not recognised."""
    return next((name for fields, name in LAYOUTS if all(field in row for field in fields)), None)
