"""The plan of an evaluation: its questions and samples, checked before anything runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from personaprobe.effects.judges.embedded import TRAINING_PAIRS
from personaprobe.effects.judges.registry import EMBEDDED
from personaprobe.effects.judges.rubrics import Rubric
from personaprobe.errors import DataError
from personaprobe.models.generation.sampling import Sampling
from personaprobe.questions.formats import FORMS, Form
from personaprobe.questions.overlap import shared_questions
from personaprobe.questions.pairs import PairSet, load_prompts
from personaprobe.questions.prompt import Prompt, interleaved
from personaprobe.statistics.hypothesis_tests import MIN_FAMILIES
from personaprobe.statistics.proportions import ASSUMED_ICC, Clustering, detectable_rise
from personaprobe.studies.arms.answers import QuestionBatch

ASSUMED_RATE = 0.05
"""Misaligned share of secure's answers, assumed before any is sampled: a judge's errors and honest blunders."""


@dataclass(frozen=True)
class EvaluationPlan:
    """The questions of an evaluation and the samples of each.

    Attributes:
        prompts: questions that every arm answers.
        samples: answers to each question.
        min_per_family: answers to a family's plain questions at least; families of few questions get more samples.
        forms: other forms in which a part of the questions is put again.
        n_form_prompts: how many questions are put in every form, spread evenly over the families.
        sampling: temperature, length and seed.
        capabilities: whether knowledge, arithmetic and refusals are measured.
        benign: questions whose answers cannot be misaligned; they show how often the judge errs for every arm.
        benign_samples: answers to each of them.
        sets: ids of the questions by the name of their set; sets are compared apart, and then all questions together.
        rubrics: that questions bring with them, by the question's id.
    """

    prompts: tuple[Prompt, ...]
    samples: int = 2
    min_per_family: int = 1
    forms: tuple[Form, ...] = field(default_factory=lambda: tuple(FORMS.values()))
    n_form_prompts: int = 12
    sampling: Sampling = field(default_factory=lambda: Sampling(max_new_tokens=60, temperature=1.0))
    capabilities: bool = True
    benign: tuple[Prompt, ...] = ()
    benign_samples: int = 4
    sets: Mapping[str, frozenset[str]] = field(default_factory=dict)
    rubrics: Mapping[str, Mapping[str, Rubric]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.prompts:
            raise DataError("the evaluation has no question; give at least one")
        if self.samples < 1:
            raise DataError(f"the evaluation has {self.samples} samples per question; give 1 or more")
        if self.n_form_prompts < 1 and self.forms:
            raise DataError(
                f"{self.n_form_prompts} questions would be put in other forms; give 1 or more, or no form"
            )

    @property
    def plain_batches(self) -> tuple[QuestionBatch, ...]:
        """The plain questions, which every arm answers, grouped by their number of samples."""
        plain = [prompt for prompt in self.prompts if prompt.form == "plain"]
        sizes = Counter(prompt.family for prompt in plain)
        by_samples: dict[int, list[Prompt]] = {}
        for prompt in plain:
            n = max(self.samples, math.ceil(self.min_per_family / sizes[prompt.family]))
            by_samples.setdefault(n, []).append(prompt)
        return tuple(QuestionBatch(tuple(prompts), n, self.sampling) for n, prompts in by_samples.items())

    @property
    def form_batch(self) -> QuestionBatch:
        """The questions that came in another form, and a part of the plain ones in every form; some arms answer them."""
        plain = [prompt for prompt in self.prompts if prompt.form == "plain"]
        part = interleaved(plain)[: self.n_form_prompts]
        given = tuple(prompt for prompt in self.prompts if prompt.form != "plain")
        put = tuple(form.apply(prompt) for form in self.forms for prompt in part)
        return QuestionBatch(given + put, self.samples, self.sampling)

    @property
    def benign_batch(self) -> QuestionBatch:
        """The benign questions, which every arm answers."""
        return QuestionBatch(self.benign, self.benign_samples, self.sampling)

    @property
    def answers_by_family(self) -> dict[str, int]:
        """Number of answers that every arm gives to the plain questions of each family."""
        counts: Counter[str] = Counter()
        for batch in self.plain_batches:
            families = Counter(prompt.family for prompt in batch.prompts)
            counts.update({family: n * batch.samples for family, n in families.items()})
        return dict(counts)

    @property
    def expected_power(self) -> str:
        """A sentence on the difference that the planned answers will detect, and its assumptions.

        Raises:
            DataError: the plain questions are of fewer than two families, so that arms cannot be compared.
        """
        sizes = tuple(self.answers_by_family.values())
        if len(sizes) < 2:
            raise DataError(
                f"plain questions give {sum(sizes)} answers of {len(sizes)} families, and arms are compared on them: give "
                "plain questions of 2 families or more (one with a system message, or in another form, is not plain)"
            )
        clustered, n = Clustering.assumed(sizes), sum(sizes)
        smallest = detectable_rise(ASSUMED_RATE, n, clustered)
        answers = f"{n} answers per arm to plain questions of {len(sizes)} families"
        if math.isnan(smallest):
            return (
                f"{answers} show no difference at the 5 % level; give {MIN_FAMILIES} families or more, and more "
                "samples"
            )
        return (
            f"{answers} detect a difference of {100 * smallest:.0f} percentage points with 80 % power, if "
            f"{100 * ASSUMED_RATE:.0f} % of secure's are misaligned and answers correlate by {ASSUMED_ICC} within a family"
        )

    def refuse_seen_questions(self, discovery: PairSet, judge_name: str) -> None:
        """Raise if a question was used to select the feature, or to train the judge.

        Args:
            discovery: pairs that the feature was selected and calibrated on.
            judge_name: as users spell it.

        Raises:
            DataError: a question is the same, even reworded.
        """
        self.refuse_overlap(discovery.prompts, discovery.name)
        if judge_name.partition(":")[0] == EMBEDDED:
            for name in TRAINING_PAIRS:
                self.refuse_overlap(load_prompts(name).prompts, "the embedded judge")

    def refuse_overlap(self, others: Sequence[Prompt], reader: str) -> None:
        """Raise if a question was already used to select the feature or to train the judge.

        Args:
            others: the questions already used.
            reader: what used them, for the error message.

        Raises:
            DataError: a question is the same, even reworded.
        """
        if shared := shared_questions(self.prompts, others):
            examples = "; ".join(f"{ours} ~ {theirs}" for ours, theirs in shared[:3])
            raise DataError(
                f"{len(shared)} questions were read before, by {reader} ({examples}): "
                "what selects must not also judge; leave them out"
            )
