"""What a name of questions stands for: shipped, pulled, or the user's own file; pairs, or free questions."""

from __future__ import annotations

from pathlib import Path

from personaprobe.errors import DataError, suggest
from personaprobe.questions.download import pulled
from personaprobe.questions.free import FreeSet, load_questions
from personaprobe.questions.pairs import FREE, PAIRS, PairSet, load_free, load_prompts
from personaprobe.questions.published import PUBLISHED
from personaprobe.storage.json_lines import read_objects

NAMES = (*PAIRS, *FREE, *PUBLISHED)


def find_questions(name: str) -> PairSet | FreeSet:
    """Load what can be answered freely: a shipped or pulled set, a published YAML file, or JSON lines.

    JSON lines in which no answer is given (``careful``, ``careless``) are free questions.

    Raises:
        DataError: unknown name, a published set that was not pulled, or a file that cannot be read as questions.
    """
    if name in PUBLISHED:
        return FreeSet(name, load_questions(pulled(PUBLISHED[name])))
    if name in FREE or name.endswith((".yaml", ".yml")):
        return load_free(name)
    path = Path(name).expanduser()
    if name not in PAIRS and not path.is_file():
        raise DataError(
            f"no question set {name!r}: {suggest(name, NAMES)}, or a .jsonl or .yaml file that exists"
        )
    return load_free(name) if name not in PAIRS and _is_free(path) else load_prompts(name)


def question_file(name: str) -> Path:
    """The YAML file a name stands for: that of a pulled set, or the path itself."""
    return pulled(PUBLISHED[name]) if name in PUBLISHED else Path(name).expanduser()


def _is_free(path: Path) -> bool:
    rows = [row for _, row in read_objects(path)]
    return bool(rows) and not any("careful" in row or "careless" in row for row in rows)
