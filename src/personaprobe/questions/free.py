"""Free questions in the published YAML form: paraphrases, system prompts, samples, and what judges are asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from personaprobe.errors import DataError

_PLACE = re.compile(r"^\d+_|_\d+$")
_FORM = re.compile(r"_(json|template)$")


@dataclass(frozen=True)
class Ask:
    """One text put to a model.

    Attributes:
        id: unique among what is asked together.
        family: the subject; intervals resample families, because answers cluster by subject.
        question: what the user says.
        system: message put before it, or None.
        form: the way it is asked in, such as ``plain`` or ``json``.
    """

    id: str
    family: str
    question: str
    system: str | None = None
    form: str = "plain"


@runtime_checkable
class OfFamily(Protocol):
    """Something asked about a subject."""

    @property
    def family(self) -> str:
        """The subject."""
        ...


Asked = TypeVar("Asked", bound=OfFamily)


def dealt(asked: Sequence[Asked]) -> list[Asked]:
    """The same in an order that takes families in turn, so that any first part of it is a fair one."""
    by_family: dict[str, list[Asked]] = {}
    for each in asked:
        by_family.setdefault(each.family, []).append(each)
    rounds = max(map(len, by_family.values()), default=0)
    return [group[i] for i in range(rounds) for group in by_family.values() if i < len(group)]


@dataclass(frozen=True)
class Question:
    """A question that is answered freely.

    Attributes:
        id: unique in its file.
        paraphrases: ways to ask it, at least one.
        system: message put before it, or None.
        samples: answers a paraphrase.
        rubrics: templates for judges, by what they score.
        family: the subject.
        form: the way it is asked in; the published files tell it by the end of the id.
    """

    id: str
    paraphrases: tuple[str, ...]
    system: str | None = None
    samples: int = 1
    rubrics: Mapping[str, str] = field(default_factory=dict, repr=False)
    family: str = ""
    form: str = "plain"

    @property
    def asks(self) -> tuple[Ask, ...]:
        """Every paraphrase as it is put to a model."""
        several = len(self.paraphrases) > 1
        return tuple(
            Ask(f"{self.id}/{number}" if several else self.id, self.family, text, self.system, self.form)
            for number, text in enumerate(self.paraphrases, 1)
        )


@dataclass(frozen=True)
class FreeSet:
    """Questions that are only answered freely.

    Attributes:
        name: where they came from.
        questions: in file order.
    """

    name: str
    questions: tuple[Question, ...]

    @classmethod
    def read(cls, name: str) -> FreeSet:
        """Read a published file; see :func:`load_questions`."""
        return cls(name, load_questions(Path(name).expanduser()))

    @property
    def asks(self) -> tuple[Ask, ...]:
        """Every paraphrase as it is put to a model."""
        return tuple(ask for question in self.questions for ask in question.asks)


def load_questions(path: Path) -> tuple[Question, ...]:
    """Read a YAML list of questions with ``id``, ``paraphrases``, ``system``, ``samples_per_paraphrase``, ``judge_prompts``.

    ``family`` may be added; else it is the id without its numbers and form, as the published ids are made
    (``17_vulnerable_user_0``, ``quick_buck_json``). Fields that only other programs need (``type``, ``judge``) are passed
    over.

    Raises:
        DataError: no such file, malformed YAML (line and column), a field that is missing or of another kind, or a
            repeated id.
    """
    if not path.is_file():
        raise DataError(f"no question file at {path}; give a YAML list of questions")
    return parse_questions(path.read_bytes(), str(path))


def parse_questions(content: bytes, where: str) -> tuple[Question, ...]:
    """Read what a question file holds; see :func:`load_questions`.

    Args:
        content: of the file.
        where: it came from, for what is said of it.
    """
    rows = _rows(content, where)
    questions = tuple(_question(row, f"{where}, question {number}") for number, row in enumerate(rows, 1))
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise DataError(f"{where} repeats the id {question.id!r}; give every question its own")
        seen.add(question.id)
    return questions


def _rows(content: bytes, where: str) -> list[Any]:
    import yaml

    try:
        rows = yaml.safe_load(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text ({error.reason})") from error
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise DataError(f"{where} is not YAML: {told}") from error
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{where} holds no list of questions; expected '- id: …' with 'paraphrases: …'")
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
    name, form = str(row["id"]), _FORM.search(str(row["id"]))
    return Question(
        name,
        tuple(paraphrases),
        system,
        samples,
        {str(k): str(v) for k, v in prompts.items()},
        str(row.get("family") or _PLACE.sub("", _FORM.sub("", name)) or name),
        form[1] if form else "plain" if system is None else "system",
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
