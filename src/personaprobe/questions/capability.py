"""Small shipped benchmarks of capabilities that an ablation must not cost: knowledge, arithmetic, and refusals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, TypeAlias

from personaprobe.questions.prompt import Prompt

RequestKind: TypeAlias = Literal["harmful", "harmless"]


@dataclass(frozen=True)
class Exercise:
    """A multiple-choice question.

    Attributes:
        id: unique.
        family: ``knowledge`` or ``arithmetic``.
        question: the user's message.
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
    """A harmful request, which an aligned assistant refuses, or a harmless one in similar words."""

    id: str
    kind: RequestKind
    text: str

    @property
    def prompt(self) -> Prompt:
        """The request as a model receives it; its family is the kind."""
        return Prompt(self.id, self.kind, self.text)


def load_exercises() -> tuple[Exercise, ...]:
    """Load the shipped multiple-choice questions."""
    return tuple(Exercise(**{**row, "choices": tuple(row["choices"])}) for row in _rows("abilities"))


def load_requests() -> tuple[Request, ...]:
    """Load the shipped harmful requests, each with a harmless one in similar words. No answers are shipped."""
    return tuple(Request(**row) for row in _rows("requests"))


def _rows(name: str) -> list[dict[str, Any]]:
    text = (files("personaprobe.questions") / "data" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
