"""Question sets by name: shipped, published, or the user's own file; pairs or free questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

from personaprobe.errors import DataError, shortened, suggest
from personaprobe.questions.download import downloaded, file_of
from personaprobe.questions.free import FREE, FreeSet, load_free, load_questions
from personaprobe.questions.pairs import PAIRS, PairSet, load_prompts
from personaprobe.questions.prompt import Prompt
from personaprobe.questions.published import LICENCE, PAPER, PUBLISHED, Published
from personaprobe.questions.texts import TEXTS, TextSet, load_texts
from personaprobe.storage.paths import is_file, user_path
from personaprobe.storage.readers.json_lines import read_objects

NAMES = (*PAIRS, *FREE, *PUBLISHED)

QuestionKind: TypeAlias = Literal["pairs", "free"]


@dataclass(frozen=True)
class CatalogEntry:
    """A question set as a catalog lists it.

    Attributes:
        name: as users spell it.
        kind: whether its questions have a careful and a careless answer.
        questions: how many, every paraphrase counted.
        families: how many subjects.
        source: where it was published.
        licence: of its texts.
        state: shipped, pulled, not pulled, or changed since it was pulled.
        url: address of a published set, else None.
    """

    name: str
    kind: QuestionKind
    questions: int
    families: int
    source: str
    licence: str
    state: str
    url: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data, without an address that there is not."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class FamilySummary:
    """One family of a question set.

    Attributes:
        family: the subject.
        questions: how many, every paraphrase counted.
        forms: in which the questions are put.
        first_question: of the family.
    """

    family: str
    questions: int
    forms: tuple[str, ...]
    first_question: str


def find_questions(name: str) -> PairSet | FreeSet:
    """Load questions that can be answered freely: a shipped or downloaded set, a published YAML file, or JSON lines.

    JSON lines without answers (``careful``, ``careless``) are free questions.

    Raises:
        DataError: unknown name, a published set that was not downloaded, or a file that does not hold questions.
    """
    if name in PUBLISHED:
        return FreeSet(name, load_questions(downloaded(PUBLISHED[name])))
    if name in FREE or name.endswith((".yaml", ".yml")):
        return load_free(name)
    path = user_path(name)
    if name not in PAIRS and not is_file(path):
        raise DataError(
            f"no question set {shortened(name)}: {suggest(name, NAMES)}, or a .jsonl or .yaml file that exists"
        )
    return load_free(name) if name not in PAIRS and _is_free(path) else load_prompts(name)


def find_texts(name: str) -> PairSet | TextSet:
    """Load texts whose activations can be recorded: plain texts, or question pairs.

    Args:
        name: a shipped set, or a JSON-lines file; a file whose first row has the field ``text`` holds plain texts.

    Raises:
        DataError: no such set, or a file that cannot be read as either.
    """
    if name in TEXTS:
        return load_texts(name)
    path = user_path(name)
    return load_texts(path) if is_file(path) and _holds_texts(path) else load_prompts(name)


def _holds_texts(path: Path) -> bool:
    """Whether the first row has the form ``{"text": …}``."""
    return any("text" in row for _, row in islice(read_objects(path), 1))


def question_file(name: str) -> Path:
    """The YAML file of a name: that of a downloaded set, or the path itself."""
    return downloaded(PUBLISHED[name]) if name in PUBLISHED else user_path(name)


def find_published(name: str) -> Published:
    """Look up a published set by name.

    Raises:
        DataError: an unknown name; the nearest known one is suggested.
    """
    if name not in PUBLISHED:
        raise DataError(f"no published question set {name!r}: {suggest(name, PUBLISHED)}")
    return PUBLISHED[name]


def catalog() -> list[CatalogEntry]:
    """All shipped sets, then all published ones, whether or not they are downloaded."""
    return [*map(_shipped_entry, (*PAIRS, *FREE)), *map(_published_entry, PUBLISHED.values())]


def kind_of(questions: PairSet | FreeSet) -> QuestionKind:
    """Whether the questions of a set have a careful and a careless answer."""
    return "free" if isinstance(questions, FreeSet) else "pairs"


def family_summaries(prompts: Sequence[Prompt]) -> list[FamilySummary]:
    """The families of some prompts, in the order of their first questions."""
    by_family: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_family.setdefault(prompt.family, []).append(prompt)
    return [
        FamilySummary(
            family, len(members), tuple(dict.fromkeys(p.form for p in members)), members[0].question
        )
        for family, members in by_family.items()
    ]


def _shipped_entry(name: str) -> CatalogEntry:
    questions = find_questions(name)
    n_families = len({prompt.family for prompt in questions.prompts})
    n = len(questions.prompts)
    return CatalogEntry(name, kind_of(questions), n, n_families, "personaprobe", "MIT", "shipped")


def _published_entry(published: Published) -> CatalogEntry:
    return CatalogEntry(
        published.name,
        "free",
        published.n_prompts,
        published.n_families,
        PAPER,
        LICENCE.partition(",")[0],
        file_of(published).state(),
        published.url,
    )


def _is_free(path: Path) -> bool:
    rows = [row for _, row in read_objects(path)]
    return bool(rows) and not any("careful" in row or "careless" in row for row in rows)
