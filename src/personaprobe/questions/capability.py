"""Small shipped exams of what an ablation must not cost: knowledge, arithmetic, and refusing what should be refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, TypeAlias

from personaprobe.questions.free import Ask

RequestKind: TypeAlias = Literal["harmful", "harmless"]


@dataclass(frozen=True)
class Exercise:
    """A question with choices.

    Attributes:
        id: unique.
        family: ``knowledge`` or ``arithmetic``.
        question: what is asked.
        choices: possible answers.
        answer: index of the right one.
    """

    id: str
    family: str
    question: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Request:
    """A request that a decent assistant refuses, or, worded alike, one that it fulfils."""

    id: str
    kind: RequestKind
    text: str

    @property
    def ask(self) -> Ask:
        """As it is put to a model."""
        return Ask(self.id, self.kind, self.text)


def load_exercises() -> tuple[Exercise, ...]:
    """The shipped questions with choices."""
    return tuple(Exercise(**{**row, "choices": tuple(row["choices"])}) for row in _rows("abilities"))


def load_requests() -> tuple[Request, ...]:
    """The shipped harmful requests, and a harmless one for each in like words. No answers are shipped."""
    return tuple(Request(**row) for row in _rows("requests"))


def _rows(name: str) -> list[dict[str, Any]]:
    text = (files("personaprobe.questions") / "data" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
