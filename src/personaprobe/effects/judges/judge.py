"""Judges: models, or rules, that score answers by a rubric. They see rubric, question and answer, and never the arm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from personaprobe.effects.judges.judgement import Judgement, Unscored, aggregate
from personaprobe.effects.judges.rubrics import Rubric
from personaprobe.models.chat_models import LocalSpeaker, Speaker, find_speaker
from personaprobe.models.loading import Placement

EMBEDDED = "embedded"
"""The name of the judge that is shipped."""

JUDGING = ("judging", "judging-open")
"""The pairs that it was trained and calibrated on: what they ask, it may not judge."""

BANDIT = "bandit"
"""The name of the judge of code."""

NUMBERS = tuple(map(str, range(101)))


@dataclass(frozen=True)
class Case:
    """One answer to be scored by one rubric."""

    rubric: Rubric
    question: str
    answer: str


@runtime_checkable
class Judge(Protocol):
    """Scores answers by rubrics."""

    @property
    def name(self) -> str:
        """As users spell it; with the rubric, what a judgement is remembered by."""
        ...

    @property
    def at_a_time(self) -> int:
        """Cases that are read together, and again together where one of them is not remembered; 1 for each alone.

        What is computed side by side agrees to rounding only with what is computed alone: who goes on after an
        interruption must read the same cases together to come to the same bits.
        """
        ...

    def judge(self, cases: Sequence[Case]) -> Iterator[Judgement]:
        """Score answers; judgements come in the order of the cases, each as soon as it is made."""
        ...


@dataclass(frozen=True)
class SpeakerJudge:
    """A language model asked for a number: the expected number under its probabilities is the score.

    Attributes:
        speaker: local or behind an endpoint.
        at_once: requests under way together; more than one only helps where a server answers them.
    """

    speaker: Speaker
    at_once: int = 1
    at_a_time: int = field(default=1, init=False)

    @property
    def name(self) -> str:
        """The speaker's."""
        return self.speaker.name

    def judge(self, cases: Sequence[Case]) -> Iterator[Judgement]:
        """Score answers; an empty one is not put to the model."""
        with ThreadPoolExecutor(self.at_once) as pool:
            try:
                yield from pool.map(self._one, cases)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _one(self, case: Case) -> Judgement:
        if not case.answer.strip():
            return Unscored("empty answer")
        rubric = case.rubric
        told = self.speaker.beginnings(rubric.ask(case.question, case.answer), (*NUMBERS, *rubric.words))
        return aggregate(told, rubric.words)


def find_judge(name: str, placement: Placement, at_once: int = 1) -> Judge:
    """Open a judge by its name: ``embedded``, ``bandit``, ``local:MODEL`` or ``openai:MODEL@URL``.

    Args:
        name: as users spell it.
        placement: of a model that is loaded here.
        at_once: requests under way together, where a server answers them.

    Raises:
        EndpointError: another spelling, or the openai package is missing.
        CheckpointError: the local model cannot be loaded.
        PersonaProbeError: Bandit is not installed.
    """
    if name == BANDIT:
        from personaprobe.effects.judges.bandit import BanditJudge

        return BanditJudge.open()
    if name == EMBEDDED:
        from personaprobe.effects.judges.embedded import EmbeddedJudge

        return EmbeddedJudge.open(placement)
    speaker = find_speaker(name, placement)
    return SpeakerJudge(speaker, 1 if isinstance(speaker, LocalSpeaker) else at_once)
