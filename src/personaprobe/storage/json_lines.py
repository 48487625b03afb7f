"""JSON lines, plain or gzipped: the format of users' questions, texts and conversations."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from personaprobe.errors import DataError


def read_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every object of a JSON-lines file with its place (``path:line``); blank lines are skipped.

    Raises:
        DataError: the file is not UTF-8 text, or a line is not a JSON object.
    """
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            place = f"{path}:{number}"
            try:
                yield place, dict(json.loads(line))
            except (ValueError, TypeError) as error:
                raise DataError(f"{place} is not a JSON object: {line.strip()[:60]!r}") from error


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file with their line ends; a name that ends in ``.gz`` is decompressed.

    Raises:
        DataError: the file is not UTF-8 text, or a broken gzip file.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            yield from lines
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise DataError(
            f"{path} is not UTF-8 text ({error}); give JSON lines or plain text, gzipped or not"
        ) from error
