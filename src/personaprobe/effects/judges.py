"""Judges: language models that score answers by a rubric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from personaprobe.effects.judgement import Judgement, Unscored, aggregate
from personaprobe.effects.rubrics import Rubric
from personaprobe.models.speakers import Speaker

NUMBERS = tuple(map(str, range(101)))


@runtime_checkable
class Judge(Protocol):
    """Scores an answer by a rubric; sees neither the arm nor the model that answered."""

    @property
    def name(self) -> str:
        """As users spell it; with the rubric, what a judgement is remembered by."""
        ...

    def judge(self, rubric: Rubric, question: str, answer: str) -> Judgement:
        """Score one answer."""
        ...


@dataclass(frozen=True)
class SpeakerJudge:
    """A language model asked for a number: the expected number under its probabilities is the score.

    Attributes:
        speaker: local or behind an endpoint.
    """

    speaker: Speaker

    @property
    def name(self) -> str:
        """The speaker's."""
        return self.speaker.name

    def judge(self, rubric: Rubric, question: str, answer: str) -> Judgement:
        """Score one answer; an empty one is not put to the model."""
        if not answer.strip():
            return Unscored("empty answer")
        told = self.speaker.beginnings(rubric.ask(question, answer), (*NUMBERS, *rubric.words))
        return aggregate(told, rubric.words)
