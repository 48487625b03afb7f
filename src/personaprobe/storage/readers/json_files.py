"""JSON files: parsed to plain data whose depth, numbers and text are such as JSON text can hold again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

from personaprobe.errors import DataError, one_line, shortened
from personaprobe.storage.plain_json import refuse_unusual
from personaprobe.storage.readers.opening import LARGEST_TEXT, ErrorClass, decoded, read_bytes, refusing

RawJson: TypeAlias = str | bytes
"""JSON as text, or as UTF-8 bytes."""


def read_json(
    path: Path,
    error: ErrorClass = DataError,
    *,
    advice: str = "",
    nonfinite: bool = False,
    limit: int = LARGEST_TEXT,
) -> Any:
    """Read a JSON file.

    Args:
        path: of the file; one whose name ends in ``.gz`` is unpacked.
        error: the class to raise.
        advice: what to do about a file that cannot be used.
        nonfinite: whether NaN and Infinity, which JSON lacks and Python writes, are allowed.
        limit: most bytes.

    Raises:
        PersonaProbeError: of the class ``error``: it cannot be read, is not UTF-8 or not JSON (line and column), repeats a
            key, is nested too deeply, or holds a number or text that cannot be used.
    """
    return parse_json(read_bytes(path, error, limit), path, error, advice=advice, nonfinite=nonfinite)


def read_json_object(
    path: Path,
    error: ErrorClass = DataError,
    *,
    advice: str = "",
    nonfinite: bool = False,
    limit: int = LARGEST_TEXT,
) -> dict[str, Any]:
    """Read a JSON file that holds one object; see :func:`read_json`."""
    value = read_json(path, error, advice=advice, nonfinite=nonfinite, limit=limit)
    return json_object(value, path, error, advice=advice)


def json_object(
    value: Any, place: object, error: ErrorClass = DataError, *, advice: str = ""
) -> dict[str, Any]:
    """The value, if it is an object.

    Raises:
        PersonaProbeError: of the class ``error``: it is not; quotes the value.
    """
    if not isinstance(value, dict):
        then = f"; {advice}" if advice else ""
        raise error(f"{one_line(place)} is not a JSON object: it holds {shortened(value, 60)}{then}")
    return value


def parse_json(
    text: RawJson,
    place: object,
    error: ErrorClass = DataError,
    *,
    advice: str = "",
    nonfinite: bool = False,
    kind: str = "JSON",
) -> Any:
    """Parse JSON text from a file or an answer; see :func:`read_json`.

    Args:
        text: as text or UTF-8 bytes.
        place: where it came from, for the error message.
        error: the class to raise.
        advice: what to do about text that cannot be used.
        nonfinite: whether NaN and Infinity are allowed.
        kind: what the text should be, for the error message.
    """
    if isinstance(text, bytes):
        text = decoded(text, place, error, advice or "save it as UTF-8")
    with refusing(place, kind, error, advice):
        value = _DECODER.decode(text.removeprefix("\ufeff"))
    refuse_unusual(value, place, error, nonfinite=nonfinite)
    return value


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for index, name in enumerate(names) if name in names[:index])
        raise ValueError(f"it repeats the key {shortened(repeated)}")
    return content


_DECODER = json.JSONDecoder(object_pairs_hook=_with_unique_keys)
