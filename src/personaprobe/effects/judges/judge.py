"""The protocol that every judge follows, and the case that it scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from personaprobe.effects.judges.judgement import Judgement
from personaprobe.effects.judges.rubrics import Rubric
from personaprobe.storage.digests import digest


@dataclass(frozen=True)
class Case:
    """One answer to be scored by one rubric."""

    rubric: Rubric
    question: str
    answer: str

    @property
    def prompt(self) -> str:
        """The rubric filled in with question and answer: the text that a language model reads."""
        return self.rubric.prompt(self.question, self.answer)

    @property
    def prompt_digest(self) -> str:
        """SHA-256 of the prompt, its first 16 hexadecimal digits."""
        return digest(self.prompt.encode("utf-8", "surrogatepass"))


@runtime_checkable
class Judge(Protocol):
    """Scores answers by rubrics. :func:`~personaprobe.effects.judges.registry.register_judge` makes one known by name."""

    @property
    def name(self) -> str:
        """The judge and its version. Cached judgements are keyed by it: it must change when scores may change."""
        ...

    @property
    def batch_size(self) -> int:
        """How many cases are judged together; 1 for each alone.

        If one case of a batch is missing from the cache, the whole batch is judged again: batched floating-point results
        differ in the last bits from those of a case alone, and a resumed run must give bit-identical scores.
        """
        ...

    def judge(self, cases: Sequence[Case]) -> Iterator[Judgement]:
        """Yield one judgement per case, in the order of the cases, each as soon as it is known."""
        ...
