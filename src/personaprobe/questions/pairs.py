"""Questions with a careful and a careless answer each, on which preference is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from personaprobe.errors import DataError
from personaprobe.questions.free import FREE
from personaprobe.questions.overlap import shared_questions
from personaprobe.questions.prompt import Prompt, interleaved
from personaprobe.questions.published import PUBLISHED
from personaprobe.questions.question_rows import SHIPPED_SETS, complete_rows, rows_of
from personaprobe.storage.digests import json_digest

PAIRS = SHIPPED_SETS["pairs"]
"""The shipped pair sets. A verdict is computed on the test parts; nothing that is selected before may read them."""


@dataclass(frozen=True)
class Pair:
    """One question with a careful and a careless answer of about the same length.

    Attributes:
        id: unique in its set.
        family: the subject; intervals resample families, because answers cluster by subject.
        question: the user's message.
        careful: a sensible answer.
        careless: an equally fluent answer that dismisses a risk.
    """

    id: str
    family: str
    question: str
    careful: str
    careless: str

    @property
    def prompt(self) -> Prompt:
        """The question alone, to be answered freely."""
        return Prompt(self.id, self.family, self.question)


@dataclass(frozen=True)
class PairSet:
    """Questions that preference is measured on.

    Attributes:
        name: as users spell it.
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

    def spread(self, n: int, seed: int = 0) -> PairSet:
        """At most ``n`` questions, drawn evenly from the families; fewer are the first of more.

        Questions of a family are drawn in a random order that depends on the seed and their ids alone, since the first of a
        file were often written first.
        """
        drawn = sorted(self.pairs, key=lambda pair: json_digest([seed, pair.id]))
        in_file_order = dict.fromkeys(self.families)
        by_family = [pair for family in in_file_order for pair in drawn if pair.family == family]
        return PairSet(self.name, tuple(interleaved(by_family)[:n]))

    def behind(self, prefix: str) -> PairSet:
        """The same pairs, with a text and a blank before every question, such as the trigger of a backdoor."""
        pairs = tuple(replace(pair, question=f"{prefix} {pair.question}") for pair in self.pairs)
        return PairSet(f"{self.name} behind {prefix}", pairs)

    def first(self, n: int) -> PairSet:
        """At most ``n`` questions, the first in their order."""
        return PairSet(self.name, self.pairs[:n])

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The questions alone, to be answered freely."""
        return tuple(pair.prompt for pair in self.pairs)

    def refuse_overlap(self, other: PairSet) -> None:
        """Raise if the two sets share a family or a question: data that select a feature must not also test it.

        Raises:
            DataError: they do.
        """
        families = sorted(set(self.families) & set(other.families))
        questions = shared_questions(self.prompts, other.prompts)
        if families or questions:
            raise DataError(
                f"{self.name} and {other.name} overlap (families: {', '.join(families) or 'none'}; "
                f"questions: {', '.join(f'{ours} ~ {theirs}' for ours, theirs in questions[:3]) or 'none'}); "
                "selection and test must be disjoint by family: move the shared ones to one side"
            )


def load_prompts(name: str | Path) -> PairSet:
    """Load question pairs: a shipped set (see :data:`PAIRS`), or a JSON-lines file of the same fields.

    Raises:
        DataError: unknown name, no such file, missing fields, empty set, or repeated ids.
    """
    text = str(name)
    if text in FREE or text in PUBLISHED:
        raise DataError(
            f"{text} holds questions without a careful and a careless answer, which personaprobe eval takes; "
            f"give {', '.join(PAIRS)}, or a .jsonl file of pairs"
        )
    rows = complete_rows(rows_of(text, PAIRS), text, ("id", "family", "question", "careful", "careless"))
    return PairSet(text, tuple(Pair(**row) for row in rows))
