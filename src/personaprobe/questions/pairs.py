"""Questions, answers and plain texts that every arm of a study reads, shipped or from the user's files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from personaprobe.errors import DataError, suggest
from personaprobe.questions.free import Ask, FreeSet, Question, dealt
from personaprobe.questions.overlap import alike
from personaprobe.questions.published import PUBLISHED
from personaprobe.storage.digests import json_digest
from personaprobe.storage.json_lines import read_objects

_DATA = files("personaprobe.questions") / "data"
_SETS: dict[str, list[str]] = json.loads((_DATA / "sets.json").read_text(encoding="utf-8"))
PAIRS, TEXTS, FREE = (tuple(_SETS[kind]) for kind in ("pairs", "texts", "free"))
"""The shipped sets. A verdict reads test sets, and whatever is chosen before the verdict must not read them."""


@dataclass(frozen=True)
class Pair:
    """One question with a careful and a careless answer of about the same length.

    Attributes:
        id: unique in its set.
        family: the subject; intervals resample families, because answers cluster by subject.
        question: what a user asks.
        careful: a sensible answer.
        careless: an equally fluent answer that waves a risk away.
    """

    id: str
    family: str
    question: str
    careful: str
    careless: str

    @property
    def ask(self) -> Ask:
        """The question alone, to be answered freely."""
        return Ask(self.id, self.family, self.question)


@dataclass(frozen=True)
class PairSet:
    """Questions that preference is measured on.

    Attributes:
        name: where they came from.
        pairs: in file order.
    """

    name: str
    pairs: tuple[Pair, ...]

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)

    @property
    def families(self) -> tuple[str, ...]:
        """The family of every question, in order."""
        return tuple(pair.family for pair in self.pairs)

    @property
    def digest(self) -> str:
        """Identity by content."""
        return json_digest([asdict(pair) for pair in self.pairs])

    def spread(self, n: int) -> PairSet:
        """At most ``n`` questions, taken evenly over the families."""
        return PairSet(self.name, tuple(dealt(self.pairs)[:n]))

    @property
    def asks(self) -> tuple[Ask, ...]:
        """The questions alone, to be answered freely."""
        return tuple(pair.ask for pair in self.pairs)

    def refuse_overlap(self, other: PairSet) -> None:
        """Raise where the two sets share a family or a question: what selects must not also judge."""
        shared = sorted(set(self.families) & set(other.families))
        same = alike(self.asks, other.asks)
        if shared or same:
            raise DataError(
                f"{self.name} and {other.name} overlap (families: {', '.join(shared) or 'none'}; "
                f"questions: {', '.join(f'{own} ~ {its}' for own, its in same[:3]) or 'none'}); "
                "selection and test must be disjoint by family: move the shared ones to one side"
            )


@dataclass(frozen=True)
class TextSet:
    """Plain texts: neutral prose for damage measures, or harmless requests."""

    name: str
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    @property
    def digest(self) -> str:
        """Identity by content."""
        return json_digest(self.texts)

    def first(self, n: int) -> TextSet:
        """At most ``n`` texts."""
        return TextSet(self.name, self.texts[:n])


def load_prompts(name: str | Path) -> PairSet:
    """Load question pairs: a shipped set (see :data:`PAIRS`), or a JSON-lines file of the same fields.

    Raises:
        DataError: unknown name, no such file, missing fields, empty set, repeated ids.
    """
    text = str(name)
    if text in FREE or text in PUBLISHED:
        raise DataError(
            f"{text} holds questions without a careful and a careless answer, which are asked by personaprobe eval; "
            f"give {', '.join(PAIRS)}, or a .jsonl file of pairs"
        )
    rows = _shipped(text) if text in PAIRS else _from_file(Path(text).expanduser(), text, PAIRS)
    told = _complete(rows, text, ("id", "family", "question", "careful", "careless"))
    return PairSet(text, tuple(Pair(**row) for row in told))


def load_free(name: str | Path) -> FreeSet:
    """Load questions that are only answered freely: ``open``, a published YAML file, or JSON lines.

    A JSON-lines file has the fields ``id``, ``family`` and ``question``.

    Raises:
        DataError: unknown name, no such file, missing fields, empty set, repeated ids.
    """
    text = str(name)
    if text.endswith((".yaml", ".yml")):
        return FreeSet.read(text)
    rows = _shipped(text) if text in FREE else _from_file(Path(text).expanduser(), text, FREE)
    told = _complete(rows, text, ("id", "family", "question"))
    return FreeSet(text, tuple(Question(row["id"], (row["question"],), family=row["family"]) for row in told))


def load_texts(name: str | Path) -> TextSet:
    """Load plain texts: ``neutral/test``, ``neutral/discovery``, ``benign``, or a JSON-lines file with a ``text`` field.

    Raises:
        DataError: unknown name, no such file, no text.
    """
    text = str(name)
    rows = _shipped(text) if text in TEXTS else _from_file(Path(text).expanduser(), text, TEXTS)
    missing = [index for index, row in enumerate(rows, 1) if not str(row.get("text", "")).strip()]
    if missing or not rows:
        raise DataError(f'{text}: line {missing[:1] or "1"} has no "text"; give JSON lines of {{"text": …}}')
    return TextSet(text, tuple(str(row["text"]) for row in rows))


def _shipped(name: str) -> list[dict[str, Any]]:
    """Rows of a shipped file, of one split where the name says which."""
    stem, _, split = name.partition("/")
    lines = (
        (files("personaprobe.questions") / "data" / f"{stem}.jsonl").read_text(encoding="utf-8").splitlines()
    )
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if row.pop("split", split) == split]


def _from_file(path: Path, name: str, shipped: Sequence[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        raise DataError(f"no question set {name!r}: {suggest(name, shipped)}, or a .jsonl file that exists")
    return [row for _, row in read_objects(path)]


def _complete(rows: Sequence[dict[str, Any]], name: str, fields: Sequence[str]) -> Iterator[dict[str, str]]:
    """The fields of every row as text, none of them empty, with ids that are unique."""
    if not rows:
        raise DataError(f"the question set {name} is empty; give at least one line with {', '.join(fields)}")
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        values = {field: str(row.get(field, "")).strip() for field in fields}
        lacking = [field for field, value in values.items() if not value]
        if lacking or values["id"] in seen:
            problem = f"lacks {', '.join(lacking)}" if lacking else f"repeats id {values['id']!r}"
            raise DataError(
                f"{name}: line {number} {problem}; every line needs a unique id and {', '.join(fields[1:])}"
            )
        seen.add(values["id"])
        yield values
