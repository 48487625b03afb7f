"""JSON lines, the form in which users' questions, texts and conversations come; gzipped or not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from personaprobe.errors import DataError


def read_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of a file, with where it stands (``path:line``); blank lines are passed over.

    Raises:
        DataError: not UTF-8 text, or a line that is not a JSON object.
    """
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            where = f"{path}:{number}"
            try:
                yield where, dict(json.loads(line))
            except (ValueError, TypeError) as error:
                raise DataError(f"{where} is not a JSON object: {line.strip()[:60]!r}") from error


def read_lines(path: Path) -> Iterator[str]:
    """Lines of text, with their ends.

    Raises:
        DataError: not UTF-8 text, or a broken gzip file.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            yield from lines
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise DataError(
            f"{path} is not UTF-8 text ({error}); give JSON lines or plain text, gzipped or not"
        ) from error
