"""Values as plain data that JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from personaprobe.errors import PersonaProbeError, one_line, shortened

DEEPEST = 64
"""Levels of lists and objects in each other; what prints or copies nested data goes one call deeper at each of them."""

LARGEST_INTEGER = 2**64
"""Integers lie below it and above its negative: larger ones are no number of anything, and no float either."""


def to_plain_json(value: Any) -> Any:
    """Convert nested values to plain JSON data: NaN and infinities become null, tuples lists, paths and keys text."""
    if isinstance(value, Mapping):
        return {str(key): to_plain_json(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_plain_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def refuse_unusual(
    value: Any, place: object, error: type[PersonaProbeError], *, nonfinite: bool = False
) -> None:
    """Raise where parsed data hold what later steps cannot use: too deep, too large a number, half a character.

    Args:
        value: nested lists and dictionaries.
        place: the file, with the line where there is one.
        error: the class to raise.
        nonfinite: whether NaN and infinities are allowed.

    Raises:
        PersonaProbeError: of the class ``error``; names the field.
    """
    if problem := _problem(value, nonfinite):
        raise error(f"{one_line(place)} {problem}")
    pending: list[tuple[Any, _Path, int]] = [(value, (), 1)] if isinstance(value, dict | list) else []
    while pending:
        item, path, depth = pending.pop()
        if depth > DEEPEST:
            raise error(f"{one_line(place)} is nested more than {DEEPEST} levels deep; give flatter data")
        for key, inner in _items(item):
            if isinstance(inner, dict | list):
                pending.append((inner, (path, key), depth + 1))
            elif problem := _problem(inner, nonfinite):
                raise error(f"{one_line(place)}{_spelled((path, key))} {problem}")
            if isinstance(key, str) and (problem := _problem_of_text(key)):
                raise error(f"{one_line(place)}{_spelled(path)} {problem}")


_Path = tuple[Any, ...]
"""Where an item stands: the path of what holds it, and its key or index there."""


def _items(value: dict[Any, Any] | list[Any]) -> Iterator[tuple[Any, Any]]:
    return iter(value.items()) if isinstance(value, dict) else enumerate(value)


def _problem(value: Any, nonfinite: bool) -> str | None:
    if isinstance(value, str):
        return _problem_of_text(value)
    if isinstance(value, float) and not nonfinite and not math.isfinite(value):
        return f"is {value}, which is no number; give a finite one"
    if isinstance(value, int) and abs(value) >= LARGEST_INTEGER:
        return f"is {shortened(value)}; give a number below 2^64"
    return None


def _problem_of_text(text: str) -> str | None:
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return f"holds half a character (an unpaired surrogate): {shortened(text)}; give whole characters"
    return None


def _spelled(path: _Path) -> str:
    keys = []
    while path:
        path, key = path
        keys.append(one_line(key, 40))
    return f", {'.'.join(reversed(keys))}" if keys else ""
