"""Questions without given answers, in the published YAML form: paraphrases, system prompts, samples, judge prompts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from personaprobe.errors import DataError, one_line, shortened
from personaprobe.questions.prompt import Prompt
from personaprobe.questions.question_rows import (
    SHIPPED_SETS,
    complete_rows,
    plain_text,
    refuse_unread,
    rows_of,
)
from personaprobe.storage.paths import is_file, user_path
from personaprobe.storage.readers.fields import Fields
from personaprobe.storage.readers.opening import read_bytes
from personaprobe.storage.readers.yaml_files import LARGEST_YAML, parse_yaml

_NUMBERING = re.compile(r"^\d+_|_\d+$")
_FORM = re.compile(r"_(json|template)$")


FREE = SHIPPED_SETS["free"]
"""The shipped sets of free questions."""

READ = ("id", "paraphrases", "system", "samples_per_paraphrase", "judge_prompts", "family")
"""Fields of a YAML question that are read."""

IGNORED = ("type", "temperature", "judge", "n")
"""Fields of published files that change no prompt here: the first two have to be those of free answers, and the judge and
the number of judgements are chosen on the command line."""

FREE_TYPES = ("free_form", "free_form_judge", "free_form_judge_0_100")
"""Published types of questions that are answered freely."""

MOST_SAMPLES = 100_000
"""Answers to one paraphrase."""


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
        return cls(name, load_questions(user_path(name)))

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Every paraphrase as a model receives it."""
        return tuple(prompt for question in self.questions for prompt in question.prompts)


def load_free(name: str | Path) -> FreeSet:
    """Load questions that are answered freely: a shipped set, a published YAML file, or JSON lines.

    A JSON-lines file has the fields ``id``, ``family`` and ``question``, and perhaps ``system``.

    Raises:
        DataError: unknown name, no such file, missing fields, empty set, or repeated ids.
    """
    text = str(name)
    if text.endswith((".yaml", ".yml")):
        return FreeSet.read(text)
    rows = complete_rows(rows_of(text, FREE), text, ("id", "family", "question"), ("system",))
    return FreeSet(text, tuple(map(_of_row, rows)))


def _of_row(row: Mapping[str, str]) -> Question:
    system = row.get("system")
    form = "plain" if system is None else "system"
    return Question(row["id"], (row["question"],), system, family=row["family"], form=form)


def load_questions(path: Path) -> tuple[Question, ...]:
    """Read a YAML list of questions with ``id``, ``paraphrases``, ``system``, ``samples_per_paraphrase``, ``judge_prompts``.

    A field ``family`` may be added; otherwise the family is the id without its numbers and form, which is how the
    published ids are built (``17_vulnerable_user_0``, ``quick_buck_json``). Every other field is refused by name, but for
    the published ones that change nothing here (:data:`IGNORED`).

    Raises:
        DataError: no such file, malformed YAML (line and column), a field that is missing or of another kind, or a
            repeated id.
    """
    if not is_file(path):
        raise DataError(f"no question file at {one_line(path)}; give a YAML list of questions")
    return parse_questions(read_bytes(path, DataError, LARGEST_YAML), str(path))


def parse_questions(content: bytes, where: str) -> tuple[Question, ...]:
    """Parse the content of a question file; see :func:`load_questions`.

    Args:
        content: bytes of the file.
        where: the file's place, for error messages.
    """
    where = one_line(where)
    rows = _rows(content, where)
    questions = tuple(_question(row, f"{where}, question {number}") for number, row in enumerate(rows, 1))
    ids: set[str] = set()
    for question in questions:
        if question.id in ids:
            raise DataError(f"{where} repeats the id {question.id!r}; give every question its own")
        ids.add(question.id)
    return questions


def _rows(content: bytes, where: str) -> list[Any]:
    rows = parse_yaml(content, where)
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{where} holds no list of questions; expected '- id: …' with 'paraphrases: …'")
    return rows


def _question(row: Any, where: str) -> Question:
    if not isinstance(row, Mapping):
        raise DataError(f"{where} is {shortened(row)}, expected fields such as id and paraphrases")
    fields = Fields.of(row, where, DataError)
    refuse_unread(row, where, (*READ, *IGNORED), "ask it in the question itself, or remove it")
    _refuse_other_kinds(fields)
    paraphrases = fields.texts("paraphrases")
    if not paraphrases:
        raise fields.wrong("paraphrases", "a list of texts, none empty")
    prompts = None if row.get("judge_prompts") is None else fields.fields("judge_prompts")
    rubrics = {} if prompts is None else {name: prompts.text(name) for name in prompts}
    system = None if row.get("system") is None else plain_text(row["system"], where, "system")
    name = fields.text("id")
    form = _FORM.search(name)
    return Question(
        name,
        tuple(plain_text(text, where, f"paraphrase {number}") for number, text in enumerate(paraphrases, 1)),
        system,
        fields.integer("samples_per_paraphrase", 1, lowest=1, highest=MOST_SAMPLES),
        rubrics,
        fields.text("family", None) or _NUMBERING.sub("", _FORM.sub("", name)) or name,
        form[1] if form else "plain" if system is None else "system",
    )


def _refuse_other_kinds(fields: Fields) -> None:
    """Raise for questions that are not answered freely, or not at the published temperature."""
    if "type" in fields and fields.content["type"] not in FREE_TYPES:
        raise fields.wrong("type", f"{', '.join(FREE_TYPES)}: questions here are answered freely")
    if fields.number("temperature", 1.0) != 1:
        raise fields.wrong("temperature", "1, or leave it out and give --temperature")
