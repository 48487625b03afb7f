"""Texts and fields of users' rows: text is taken as it stands, and whatever would be lost or misread is refused by name."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from personaprobe.errors import DataError, one_line, shortened, suggest

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
