"""The plan of a study: its questions, texts, controls and draws, checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from personaprobe.effects.verdict import THRESHOLDS, Thresholds
from personaprobe.errors import DataError
from personaprobe.features.sae.quality import MIN_EXPLAINED_VARIANCE
from personaprobe.models.generation.sampling import Sampling
from personaprobe.models.tokens import Role
from personaprobe.organisms.registry import default_question_sets
from personaprobe.questions.benign import benign_prompts
from personaprobe.questions.pairs import PairSet, load_prompts
from personaprobe.questions.texts import TextSet, load_texts
from personaprobe.studies.arms.answers import QuestionBatch

MIN_CONTROLS = 39
"""Controls that decide: a feature that beats all of them has a two-sided rank p of 2/40."""


@dataclass(frozen=True)
class StudyPlan:
    """The questions, texts, controls and draws of a study.

    Attributes:
        test: the questions that the verdict is read from; discovery never reads them. They are kept in an order that takes
            families in turn, so that any first part of them is balanced.
        discovery: questions on which directions, calibration and energies are computed.
        neutral: prose for perplexity and divergence, which no earlier choice has read.
        controls: directions that decide, matched on the energy they remove: a third isotropic, a third drawn from the
            covariance of response activations, a third differences of means with shuffled labels; at least 39.
        control_questions: test questions that controls answer: the first so many. The selected control, the feature's
            ablation in base and secure, and base steered answer twice as many. All are compared with the feature on the
            same questions.
        null_controls: controls that are ablated in base and in secure too.
        further_directions: directions that are found again after the feature is ablated.
        narrow: questions of the task that both fine-tunes learned; None leaves the narrow task out.
        balanced: further questions, of no family of discovery, whose careful and careless answers a bag of words cannot tell
            apart; None leaves them out.
        balanced_questions: how many of them are answered, spread evenly over the families.
        control_texts: neutral texts that controls and base steered read: the first so many. Their perplexity is compared
            there with that of their untreated checkpoint.
        samples: answers drawn per sampled question; 0 draws none, and coherence is then not measured.
        sampled_questions: test questions that are answered freely, spread evenly over the families.
        coherence_questions: the same for insecure and the ablated model, whose coherence is compared.
        benign: harmless requests, which those two answer as well. Divergence on chat is measured on insecure's answers.
        benign_samples: answers drawn per request; none where ``samples`` is 0.
        calibration_questions: discovery questions whose responses control directions are drawn from; all controls are
            calibrated on all discovery questions.
        matching_questions: discovery questions on which energies are matched.
        first_tokens: whether a text's first token is edited, counted in energies, and its prediction in KL and
            perplexity.
        seed: of controls, sampling and bootstrap.
        sampling: how answers are drawn.
        decisive_only: whether arms that no rule of the verdict reads are left out: controls that are only shown, variants of
            the ablation, dose–response, and base steered.
        floor: explained variance of the calibration texts below which a dictionary's latents are refused.
        thresholds: the numbers of the verdict's rules.
    """

    test: PairSet = field(default_factory=lambda: load_prompts(default_question_sets().test))
    discovery: PairSet = field(default_factory=lambda: load_prompts(default_question_sets().discovery))
    neutral: TextSet = field(default_factory=lambda: load_texts("neutral/test"))
    controls: int = MIN_CONTROLS
    control_questions: int = 12
    null_controls: int = 3
    further_directions: int = 2
    narrow: PairSet | None = None
    balanced: PairSet | None = None
    balanced_questions: int = 48
    control_texts: int = 6
    samples: int = 2
    sampled_questions: int = 12
    coherence_questions: int = 36
    benign: TextSet = field(default_factory=lambda: load_texts("benign"))
    benign_samples: int = 2
    calibration_questions: int = 16
    matching_questions: int = 8
    first_tokens: bool = False
    seed: int = 0
    sampling: Sampling = field(default_factory=lambda: Sampling(max_new_tokens=40))
    decisive_only: bool = False
    floor: float = MIN_EXPLAINED_VARIANCE
    thresholds: Thresholds = THRESHOLDS

    def __post_init__(self) -> None:
        if self.controls < MIN_CONTROLS:
            raise DataError(
                f"{self.controls} control directions; a rank p of 0.05 takes {MIN_CONTROLS}: give {MIN_CONTROLS} or more"
            )
        if self.control_questions < 1:
            raise DataError(f"{self.control_questions} control questions; give 1 or more")
        if self.null_controls < 0 or self.further_directions < 0:
            raise DataError(
                f"{self.null_controls} controls in other checkpoints and {self.further_directions} further directions; give "
                "0 or more of each"
            )
        if self.control_texts < 1:
            raise DataError(f"{self.control_texts} neutral texts for controls; give 1 or more")
        for samples in (self.samples, self.benign_samples):
            if samples < 0:
                raise DataError(f"{samples} samples per question; give 0 or more")
        self.test.refuse_overlap(self.discovery)
        if self.balanced is not None:
            self.balanced.refuse_overlap(self.discovery)
            object.__setattr__(self, "balanced", self.balanced.spread(self.balanced_questions, self.seed))
        object.__setattr__(self, "test", self.test.spread(len(self.test), self.seed))
        # one seed decides everything that is drawn
        object.__setattr__(self, "sampling", replace(self.sampling, seed=self.seed))

    @property
    def roles(self) -> Role:
        """The tokens that interventions change."""
        return Role.ALL | Role.FIRST if self.first_tokens else Role.ALL

    @property
    def control_test(self) -> PairSet:
        """The test questions for controls."""
        return self.test.first(self.control_questions)

    @property
    def compared_test(self) -> PairSet:
        """The test questions for single arms that a rule or a word of the verdict rests on."""
        return self.test.first(self.compared_questions)

    @property
    def compared_questions(self) -> int:
        """How many questions those arms answer."""
        return 2 * self.control_questions

    def answered(self, n_questions: int) -> QuestionBatch:
        """So many test questions, to be answered freely."""
        return QuestionBatch(self.test.spread(n_questions).prompts, self.samples, self.sampling)

    @property
    def benign_batch(self) -> QuestionBatch:
        """The harmless requests, to be answered freely."""
        samples = self.benign_samples if self.samples else 0
        return QuestionBatch(benign_prompts(self.benign), samples, self.sampling)

    def describe(self) -> dict[str, Any]:
        """The plan as plain data."""
        return {
            "test": _described(self.test),
            "discovery": _described(self.discovery),
            "neutral": _described(self.neutral),
            "controls": self.controls,
            "control_questions": self.control_questions,
            "null_controls": self.null_controls,
            "further_directions": self.further_directions,
            "narrow": None if self.narrow is None else _described(self.narrow),
            "balanced": None if self.balanced is None else _described(self.balanced),
            "control_texts": self.control_texts,
            "samples": self.samples,
            "sampled_questions": self.sampled_questions,
            "coherence_questions": self.coherence_questions,
            "benign": _described(self.benign),
            "benign_samples": self.benign_samples,
            "calibration_questions": self.calibration_questions,
            "matching_questions": self.matching_questions,
            "first_tokens": self.first_tokens,
            "decisive_only": self.decisive_only,
            "seed": self.seed,
            "max_new_tokens": self.sampling.max_new_tokens,
            "temperature": self.sampling.temperature,
        }


def _described(part: PairSet | TextSet) -> dict[str, Any]:
    return {"name": part.name, "digest": part.digest, "n": len(part)}
