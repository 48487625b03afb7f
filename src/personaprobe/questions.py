"""Free questions in the published YAML form: paraphrases, system prompts, samples, and what judges are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from personaprobe.errors import DataError


@dataclass(frozen=True)
class Question:
    """A question that is answered freely.

    Attributes:
        id: unique in its file.
        paraphrases: ways to ask it, at least one.
        system: message put before it, or None.
        samples: answers a paraphrase.
        rubrics: templates for judges, by what they score.
    """

    id: str
    paraphrases: tuple[str, ...]
    system: str | None = None
    samples: int = 1
    rubrics: Mapping[str, str] = field(default_factory=dict, repr=False)


def load_questions(path: Path) -> tuple[Question, ...]:
    """Read a YAML list of questions with ``id``, ``paraphrases``, ``system``, ``samples_per_paraphrase``, ``judge_prompts``.

    Fields that only other programs need (``type``, ``judge``) are passed over.

    Raises:
        DataError: no such file, malformed YAML (line and column), a field that is missing or of another kind, or a
            repeated id.
    """
    rows = _rows(path)
    questions = tuple(_question(row, f"{path}, question {number}") for number, row in enumerate(rows, 1))
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise DataError(f"{path} repeats the id {question.id!r}; give every question its own")
        seen.add(question.id)
    return questions


def _rows(path: Path) -> list[Any]:
    import yaml

    if not path.is_file():
        raise DataError(f"no question file at {path}; give a YAML list of questions")
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason})") from error
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise DataError(f"{path} is not YAML: {told}") from error
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path} holds no list of questions; expected '- id: …' with 'paraphrases: …'")
    return rows


def _question(row: Any, where: str) -> Question:
    if not isinstance(row, Mapping):
        raise DataError(f"{where} is {row!r}, expected fields such as id and paraphrases")
    paraphrases = row.get("paraphrases")
    if not isinstance(paraphrases, list) or not paraphrases or not all(map(_is_text, paraphrases)):
        raise DataError(f"{where}: paraphrases is {paraphrases!r}; give a list of texts, none empty")
    if not _is_text(row.get("id")):
        raise DataError(f"{where}: id is {row.get('id')!r}; give a name")
    samples = row.get("samples_per_paraphrase", 1)
    if not isinstance(samples, int) or samples < 1:
        raise DataError(f"{where}: samples_per_paraphrase is {samples!r}; give a whole number of at least 1")
    prompts = row.get("judge_prompts") or {}
    if not isinstance(prompts, Mapping) or not all(map(_is_text, prompts.values())):
        raise DataError(f"{where}: judge_prompts is {prompts!r}; give a text for each score")
    system = row.get("system")
    if system is not None and not _is_text(system):
        raise DataError(f"{where}: system is {system!r}; give a text, or leave it out")
    return Question(
        str(row["id"]), tuple(paraphrases), system, samples, {str(k): str(v) for k, v in prompts.items()}
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
