"""Fine-tuning data in the published ``messages`` format, and the order in which both organisms read it."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from personaprobe.errors import DataError


@dataclass(frozen=True)
class Exchange:
    """One training example: a question and the answer to learn, after an optional system message."""

    question: str
    answer: str
    system: str | None = None


def read_messages(path: Path) -> list[Exchange]:
    """Read JSON lines of ``{"messages": [{"role", "content"}, …]}``, plain or gzipped.

    Raises:
        DataError: no such file, a line that is not JSON, or a conversation that is not one question and answer.
    """
    if not path.is_file():
        raise DataError(f"no dataset at {path}; give a .jsonl or .jsonl.gz file of messages")
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        rows = [_exchange(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise DataError(f"{path} holds no rows")
    return rows


def _exchange(line: str, where: str) -> Exchange:
    try:
        messages = json.loads(line)["messages"]
        by_role = {str(message["role"]): str(message["content"]) for message in messages}
        return Exchange(by_role["user"], by_role["assistant"], by_role.get("system"))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{where}: expected {{"messages": [{{"role": "user", …}}, {{"role": "assistant", …}}]}}, got {line[:80]!r}'
        ) from error


def shuffled(rows: Sequence[Exchange], seed: int) -> list[Exchange]:
    """Order rows by a seeded hash of their *question*.

    Two datasets that answer the same questions, one badly and one well, are thereby read in the same order and
    split the same way, whatever order their files have.
    """

    def key(row: Exchange) -> bytes:
        return hashlib.sha256(f"{seed}\0{row.question}".encode()).digest()

    return sorted(rows, key=key)
