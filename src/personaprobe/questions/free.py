"""Questions without given answers, in the published YAML form: paraphrases, system prompts, samples, judge prompts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from personaprobe.errors import DataError
from personaprobe.questions.prompt import Prompt
from personaprobe.questions.question_rows import SHIPPED_SETS, complete_rows, rows_of

_NUMBERING = re.compile(r"^\d+_|_\d+$")
_FORM = re.compile(r"_(json|template)$")


FREE = SHIPPED_SETS["free"]
"""The shipped sets of free questions."""


@dataclass(frozen=True)
class Question:
    """A question that is answered freely.

    Attributes:
        id: unique in its file.
        paraphrases: wordings of the question, at least one.
        system: message put before it, or None.
        samples: answers per paraphrase.
        rubrics: judges' prompt templates, by the name of the score.
        family: the subject.
        form: how the question is put; published files have it at the end of the id.
    """

    id: str
    paraphrases: tuple[str, ...]
    system: str | None = None
    samples: int = 1
    rubrics: Mapping[str, str] = field(default_factory=dict, repr=False)
    family: str = ""
    form: str = "plain"

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Every paraphrase as a model receives it."""
        several = len(self.paraphrases) > 1
        return tuple(
            Prompt(f"{self.id}/{number}" if several else self.id, self.family, text, self.system, self.form)
            for number, text in enumerate(self.paraphrases, 1)
        )


@dataclass(frozen=True)
class FreeSet:
    """Questions that are answered freely: without a careful and a careless answer.

    Attributes:
        name: as users spell it.
        questions: in file order.
    """

    name: str
    questions: tuple[Question, ...]

    @classmethod
    def read(cls, name: str) -> FreeSet:
        """Read a published file; see :func:`load_questions`."""
        return cls(name, load_questions(Path(name).expanduser()))

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Every paraphrase as a model receives it."""
        return tuple(prompt for question in self.questions for prompt in question.prompts)


def load_free(name: str | Path) -> FreeSet:
    """Load questions that are answered freely: a shipped set, a published YAML file, or JSON lines.

    A JSON-lines file has the fields ``id``, ``family`` and ``question``.

    Raises:
        DataError: unknown name, no such file, missing fields, empty set, or repeated ids.
    """
    text = str(name)
    if text.endswith((".yaml", ".yml")):
        return FreeSet.read(text)
    rows = complete_rows(rows_of(text, FREE), text, ("id", "family", "question"))
    return FreeSet(text, tuple(Question(row["id"], (row["question"],), family=row["family"]) for row in rows))


def load_questions(path: Path) -> tuple[Question, ...]:
    """Read a YAML list of questions with ``id``, ``paraphrases``, ``system``, ``samples_per_paraphrase``, ``judge_prompts``.

    A field ``family`` may be added; otherwise the family is the id without its numbers and form, which is how the
    published ids are built (``17_vulnerable_user_0``, ``quick_buck_json``). Other programs' fields (``type``, ``judge``)
    are ignored.

    Raises:
        DataError: no such file, malformed YAML (line and column), a field that is missing or of another kind, or a
            repeated id.
    """
    if not path.is_file():
        raise DataError(f"no question file at {path}; give a YAML list of questions")
    return parse_questions(path.read_bytes(), str(path))


def parse_questions(content: bytes, where: str) -> tuple[Question, ...]:
    """Parse the content of a question file; see :func:`load_questions`.

    Args:
        content: bytes of the file.
        where: the file's place, for error messages.
    """
    rows = _rows(content, where)
    questions = tuple(_question(row, f"{where}, question {number}") for number, row in enumerate(rows, 1))
    ids: set[str] = set()
    for question in questions:
        if question.id in ids:
            raise DataError(f"{where} repeats the id {question.id!r}; give every question its own")
        ids.add(question.id)
    return questions


def _rows(content: bytes, where: str) -> list[Any]:
    import yaml

    try:
        rows = yaml.safe_load(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text ({error.reason})") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{where} is not YAML: {reason}") from error
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
        str(row.get("family") or _NUMBERING.sub("", _FORM.sub("", name)) or name),
        form[1] if form else "plain" if system is None else "system",
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
