"""JSON lines, plain or gzipped: the format of users' questions, texts and conversations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from personaprobe.errors import DataError, one_line, shortened
from personaprobe.storage.readers.json_files import parse_json
from personaprobe.storage.readers.opening import ErrorClass, read_lines

__all__ = ["read_lines", "read_objects"]


def read_objects(
    path: Path, error: ErrorClass = DataError, *, nonfinite: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every object of a JSON-lines file with its place (``path:line``); blank lines are skipped.

    Args:
        path: of the file; one whose name ends in ``.gz`` is unpacked.
        error: the class to raise.
        nonfinite: whether NaN and Infinity are allowed.

    Raises:
        PersonaProbeError: of the class ``error``: the file cannot be read, or a line is not a JSON object; names the line.
    """
    yield from parse_objects(read_lines(path, error), path, error, nonfinite=nonfinite)


def parse_objects(
    lines: Iterable[str], source: object, error: ErrorClass = DataError, *, nonfinite: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every object of some JSON lines with its place (``source:line``); see :func:`read_objects`."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{source}:{number}"
        advice = _advice(line, number)
        value = parse_json(line, place, error, nonfinite=nonfinite, advice=advice, kind="a JSON object")
        if not isinstance(value, dict):
            raise error(f"{one_line(place)} is not a JSON object: {shortened(line.strip(), 60)}; {advice}")
        yield place, value


def _advice(line: str, number: int) -> str:
    whole = number == 1 and line.lstrip()[:1] in ("[", "{") and line.count("{") != line.count("}")
    array = number == 1 and line.lstrip().startswith("[")
    return (
        "write one object a line, without the brackets of a list"
        if whole or array
        else "write one object a line"
    )
