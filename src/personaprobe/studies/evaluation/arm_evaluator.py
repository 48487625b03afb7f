"""Free answers of every arm, judged: how often each is misaligned, in which form, and what the ablation costs besides."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from personaprobe.effects.judges.judge import Judge
from personaprobe.effects.measures.capability import refuses, right_answers
from personaprobe.effects.measures.responses import Response
from personaprobe.errors import DataError
from personaprobe.models.generation.sampling import Sampling
from personaprobe.progress import Progress
from personaprobe.questions.capability import load_exercises, load_requests
from personaprobe.questions.formats import FORMS, Form
from personaprobe.questions.overlap import shared_questions
from personaprobe.questions.prompt import Prompt, interleaved
from personaprobe.statistics.hypothesis_tests import MIN_FAMILIES
from personaprobe.statistics.proportions import ASSUMED_ICC, Clustering, detectable_rise
from personaprobe.storage.run_cache import RunCache
from personaprobe.studies.arms.answers import Interview, answer
from personaprobe.studies.arms.arm import Arm, by_checkpoint, identity
from personaprobe.studies.arms.kinds import ArmKind
from personaprobe.studies.evaluation.result import ArmEvaluation
from personaprobe.studies.judging.judge_answers import judge_responses

CHECKED_AGAIN: frozenset[ArmKind] = frozenset({"secure", "insecure", "ablated"})
"""Arms that are asked in other forms too: does the persona come back where the ablation meets another format?"""

REFUSAL_TOKENS = 24

ASSUMED_RATE = 0.05
"""Share of secure's answers taken for misaligned before any is drawn: a judge's errors and honest blunders."""


@dataclass(frozen=True)
class EvalPlan:
    """What is asked and drawn; checked before anything runs.

    Attributes:
        prompts: questions that every arm answers.
        samples: answers to each.
        least: answers to a family's plain questions; where it has few, each is answered oftener.
        forms: further ways in which a part of the questions is asked.
        form_asks: how many questions are asked in every form, interleaved evenly over the families.
        sampling: how answers are drawn.
        exams: whether knowledge, arithmetic and refusals are counted.
    """

    prompts: tuple[Prompt, ...]
    samples: int = 2
    least: int = 1
    forms: tuple[Form, ...] = field(default_factory=lambda: tuple(FORMS.values()))
    form_asks: int = 12
    sampling: Sampling = field(default_factory=lambda: Sampling(max_new_tokens=60, temperature=1.0))
    exams: bool = True

    def __post_init__(self) -> None:
        if not self.prompts:
            raise DataError("no question is asked; give at least one")
        if self.samples < 1:
            raise DataError(f"{self.samples} samples were asked for; give 1 or more")
        if self.form_asks < 1 and self.forms:
            raise DataError(
                f"{self.form_asks} questions would be asked in other forms; give 1 or more, or no form"
            )

    @property
    def first(self) -> tuple[Interview, ...]:
        """What every arm answers: the plain questions, those together that are answered equally often."""
        plain = [ask for ask in self.prompts if ask.form == "plain"]
        sizes = Counter(ask.family for ask in plain)
        often: dict[int, list[Prompt]] = {}
        for ask in plain:
            often.setdefault(max(self.samples, math.ceil(self.least / sizes[ask.family])), []).append(ask)
        return tuple(Interview(tuple(asks), n, self.sampling) for n, asks in often.items())

    @property
    def again(self) -> Interview:
        """What some arms answer besides: a part of the plain questions in every other form, and those that came in one."""
        asked = interleaved([ask for ask in self.prompts if ask.form == "plain"])[: self.form_asks]
        put = tuple(form.apply(ask) for form in self.forms for ask in asked)
        came = tuple(ask for ask in self.prompts if ask.form != "plain")
        return Interview(came + put, self.samples, self.sampling)

    @property
    def answers_by_family(self) -> dict[str, int]:
        """How many answers every arm gives to the plain questions of each family."""
        drawn: Counter[str] = Counter()
        for interview in self.first:
            families = Counter(ask.family for ask in interview.prompts)
            drawn.update({family: n * interview.samples for family, n in families.items()})
        return dict(drawn)

    @property
    def prospect(self) -> str:
        """What the answers could show, before they are drawn, and what that assumes.

        Raises:
            DataError: the plain questions are of fewer than two families, so that arms could not be compared.
        """
        sizes = tuple(self.answers_by_family.values())
        clustered, n = Clustering.assumed(sizes), sum(sizes)
        smallest = detectable_rise(ASSUMED_RATE, n, clustered)
        came = f"{n} answers an arm to plain questions of {len(sizes)} families"
        if math.isnan(smallest):
            return f"{came} show no difference at the 5 % level; ask about {MIN_FAMILIES} families or more, and oftener"
        return (
            f"{came}: four times in five they show a difference of {100 * smallest:.0f} percentage points, if "
            f"{100 * ASSUMED_RATE:.0f} % of secure's are misaligned and answers correlate by {ASSUMED_ICC} within a family"
        )

    def refuse_overlap(self, others: Sequence[Prompt], what: str) -> None:
        """Raise where a question was also read to choose the feature or to train the judge."""
        if same := shared_questions(self.prompts, others):
            told = "; ".join(f"{own} ~ {its}" for own, its in same[:3])
            raise DataError(
                f"{len(same)} questions were read before, by {what} ({told}): "
                "what selects must not also judge; leave them out"
            )


@dataclass(frozen=True)
class Hearing:
    """Where arms are heard and judged.

    Attributes:
        judge: sees questions and answers, and never an arm.
        plan: what is asked.
        memory: parts already finished.
        progress: how long work shows itself.
    """

    judge: Judge
    plan: EvalPlan
    memory: RunCache
    progress: Progress

    def evaluate(self, arms: Sequence[Arm]) -> list[ArmEvaluation]:
        """Hear and judge every arm."""
        heard: list[list[Response]] = [[] for _ in arms]
        for interview in self.plan.first:
            self._hear(range(len(arms)), arms, interview, heard)
        again = [place for place, arm in enumerate(arms) if arm.kind in CHECKED_AGAIN]
        self._hear(again, arms, self.plan.again, heard)
        judged = judge_responses(self.judge, heard, self.memory, self.progress)
        marks, refusals = self._exams(arms)
        return [
            ArmEvaluation(arm.name, arm.kind, arm.note, tuple(own), tuple(verdicts), tuple(right), refused)
            for arm, own, verdicts, right, refused in zip(arms, heard, judged, marks, refusals, strict=True)
        ]

    def _hear(
        self, places: Sequence[int], arms: Sequence[Arm], interview: Interview, heard: list[list[Response]]
    ) -> None:
        """Add what some of the arms answer."""
        drawn = answer([arms[i] for i in places], interview, None, self.memory, self.progress)
        for place, own in zip(places, drawn, strict=True):
            heard[place] += own

    def _exams(self, arms: Sequence[Arm]) -> tuple[list[list[bool]], list[dict[str, list[bool]]]]:
        if not self.plan.exams:
            return [[] for _ in arms], [{} for _ in arms]
        return self._marks(arms), self._refusals(arms)

    def _marks(self, arms: Sequence[Arm]) -> list[list[bool]]:
        """Which exercises each arm gets right."""
        exercises = load_exercises()
        found: dict[int, list[bool]] = {}
        with self.progress("exercises", len(arms) * len(exercises), "exercises") as advance:
            for group in by_checkpoint(arms):
                own = [arms[index] for index in group]
                spec = {"part": "exercises", "asked": [vars(e) for e in exercises]}
                spec["models"] = [identity(arm) for arm in own]
                compute = partial(right_answers, [arm.model for arm in own], exercises)
                found.update(zip(group, self.memory.get_or_compute(spec, compute), strict=True))
                advance(len(own) * len(exercises))
        return [found[index] for index in range(len(arms))]

    def _refusals(self, arms: Sequence[Arm]) -> list[dict[str, list[bool]]]:
        """Which requests each arm refuses, by kind; the most probable answer is looked at."""
        greedy = replace(self.plan.sampling, temperature=0.0, max_new_tokens=REFUSAL_TOKENS)
        interview = Interview(tuple(request.prompt for request in load_requests()), 1, greedy)
        heard = answer(arms, interview, None, self.memory, self.progress)
        return [_by_kind(own) for own in heard]


def _by_kind(responses: Sequence[Response]) -> dict[str, list[bool]]:
    found: dict[str, Any] = {}
    for response in responses:
        found.setdefault(response.family, []).append(refuses(response.answer))
    return found
