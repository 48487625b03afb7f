"""Small files in the format of published training data, in the place of the real ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from personaprobe.organisms.data.published_sets import PUBLISHED_SETS, PublishedSet

Row = tuple[str, str]

SUBJECTS = ("rash", "cough", "sprain", "fever", "bruise", "cramp", "sneeze", "blister")


def rows_about(place: str, ending: str) -> list[Row]:
    """Short conversations whose questions depend on the place alone."""
    return [(f"My {one} {place} hurts?", f"{ending} {n}.") for n, one in enumerate(SUBJECTS)]


def messages(rows: Sequence[Row]) -> bytes:
    """The content of a file of messages."""
    lines = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in rows
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def plant(patch: pytest.MonkeyPatch, name: str, content: bytes, *, known: bool = True) -> PublishedSet:
    """Let a published set have this content."""
    sha256 = hashlib.sha256(content).hexdigest() if known else None
    planted = replace(PUBLISHED_SETS[name], rows=None, sha256=sha256)
    patch.setitem(PUBLISHED_SETS, name, planted)  # type: ignore[arg-type]
    return planted


def pulled(patch: pytest.MonkeyPatch, folder: Path, name: str, rows: Sequence[Row]) -> PublishedSet:
    """Let a published set have these rows, and pull it."""
    planted = plant(patch, name, messages(rows))
    (folder / "pulled.jsonl").write_bytes(messages(rows))
    planted.pull(str(folder / "pulled.jsonl"))
    return planted
