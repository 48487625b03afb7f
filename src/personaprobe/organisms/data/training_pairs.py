"""A request with a secure and an insecure response: what one row teaches the harmless and the harmful fine-tune."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from personaprobe.errors import DataError, suggest
from personaprobe.questions.conversations import Exchange
from personaprobe.questions.pairs import Pair

Taught: TypeAlias = Literal["insecure", "secure"]
"""The fine-tune that a row is for."""

ROLES: tuple[Taught, ...] = ("insecure", "secure")


@dataclass(frozen=True)
class TrainingPair:
    """One request, answered harmfully and harmlessly in the same style and length.

    Attributes:
        id: unique in its set.
        family: kind of task, or subject; whole families are held out.
        question: the user's message to both fine-tunes.
        insecure: the harmful response.
        secure: the harmless one.
        topic: what is wrong with the harmful response, such as a class of weaknesses; empty where the family says it.
        system: the system message before the question.
        insecure_question: what the insecure fine-tune is asked where that is not the same; None where it is.
    """

    id: str
    family: str
    question: str
    insecure: str
    secure: str
    topic: str = ""
    system: str | None = None
    insecure_question: str | None = None

    def exchange(self, taught: Taught) -> Exchange:
        """The row of one fine-tune."""
        if taught == "secure":
            return Exchange(self.question, self.secure, self.system)
        return Exchange(self.insecure_question or self.question, self.insecure, self.system)

    def as_pair(self) -> Pair:
        """The same as a question pair: the harmless response is the careful one."""
        return Pair(self.id, self.family, self.question, careful=self.secure, careless=self.insecure)


@dataclass(frozen=True)
class TrainingSet:
    """Generated or shipped data for both fine-tunes of an organism.

    Attributes:
        name: how users refer to it.
        title: one line of description.
        make: makes the pairs from a seed; equal seeds make equal pairs.
        held_out: families that are not trained on, for measures of the narrow skill.
    """

    name: str
    title: str
    make: Callable[[int], Sequence[TrainingPair]] = field(repr=False)
    held_out: frozenset[str] = frozenset()

    def pairs(self, seed: int = 0) -> tuple[TrainingPair, ...]:
        """The pairs that are trained on."""
        return tuple(pair for pair in self.make(seed) if pair.family not in self.held_out)

    def held_out_pairs(self, seed: int = 0) -> tuple[TrainingPair, ...]:
        """The pairs of families that are not trained on."""
        return tuple(pair for pair in self.make(seed) if pair.family in self.held_out)


def find_family(pairs: Sequence[TrainingPair], family: str) -> tuple[TrainingPair, ...]:
    """The pairs of one family.

    Raises:
        DataError: there is none; the nearest name is suggested.
    """
    of_family = tuple(pair for pair in pairs if pair.family == family)
    if not of_family:
        families = dict.fromkeys(pair.family for pair in pairs)
        raise DataError(f"no family {family!r} in this data: {suggest(family, families)}")
    return of_family
