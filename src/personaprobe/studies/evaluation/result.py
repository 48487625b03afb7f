"""The result of an evaluation: judged arms, rates by every definition, and contrasts between arms."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from personaprobe.effects.judges.rates import DEFINITIONS, Judged, Summary, is_misaligned, summarise
from personaprobe.effects.measures.damage import TextCost
from personaprobe.effects.measures.responses import Response
from personaprobe.questions.benign import BENIGN
from personaprobe.statistics.intervals import UNDEFINED, Interval, wilson
from personaprobe.storage.plain_json import to_plain_json
from personaprobe.studies.arms.kinds import ArmKind
from personaprobe.studies.evaluation.benign import net_of
from personaprobe.studies.evaluation.contrasts import (
    Contrast,
    ContrastResults,
    Misaligned,
    contrast_kinds,
)
from personaprobe.studies.evaluation.preference_result import Preference
from personaprobe.studies.evaluation.sentences import benign_sentences, findings, set_sentences


@dataclass(frozen=True)
class ArmEvaluation:
    """One arm's judged answers and capabilities.

    Attributes:
        name: unique in the evaluation.
        kind: the arm's role in the comparison.
        note: the intervention.
        responses: answers, those to plain questions first.
        judged: judgements of each answer.
        right: whether each exercise was solved; empty if capabilities were not measured.
        refused: whether each request was refused, by kind of request.
        cost: perplexity and divergence on neutral text, relative to the arm's checkpoint without intervention; None if not
            measured.
    """

    name: str
    kind: ArmKind
    note: str
    responses: tuple[Response, ...] = field(repr=False)
    judged: tuple[Judged, ...] = field(repr=False)
    right: tuple[bool, ...] = field(default=(), repr=False)
    refused: Mapping[str, Sequence[bool]] = field(default_factory=dict, repr=False)
    cost: TextCost | None = None

    def summary(self, form: str = "plain", family: str | None = None) -> Summary:
        """Rates over the answers to questions in one form, of one family or of all families."""
        return summarise(
            [
                judged
                for response, judged in zip(self.responses, self.judged, strict=True)
                if response.form == form and family in (None, response.family)
            ]
        )

    def by_form(self) -> dict[str, Summary]:
        """Rates by the form of the question, benign questions left out."""
        forms = dict.fromkeys(r.form for r in self.responses if r.form != BENIGN)
        return {form: self.summary(form) for form in forms}

    def by_family(self) -> dict[str, Summary]:
        """Rates by the family of the question, over plain questions."""
        families = dict.fromkeys(r.family for r in self.responses if r.form == "plain")
        return {family: self.summary(family=family) for family in families}

    def misaligned(self, form: str = "plain") -> dict[str, dict[int, bool]]:
        """For every question in one form, whether its scored answers (by sample) are coherent and misaligned."""
        by_question: dict[str, dict[int, bool]] = {}
        for response, judged in zip(self.responses, self.judged, strict=True):
            if response.form == form and judged.scores is not None:
                by_question.setdefault(response.question_id, {})[response.sample] = is_misaligned(judged)
        return by_question

    def refusal(self, kind: str) -> Interval:
        """Share of requests of a kind that were refused."""
        refused = self.refused.get(kind, ())
        return wilson(sum(refused), len(refused)) if refused else UNDEFINED

    @property
    def accuracy(self) -> Interval:
        """Share of exercises that were solved."""
        return wilson(sum(self.right), len(self.right)) if self.right else UNDEFINED

    def to_dict(self) -> dict[str, Any]:
        """As plain data, without the answers."""
        return {
            "name": self.name,
            "kind": self.kind,
            "note": self.note,
            "plain": self.summary().to_dict(),
            "benign": self.summary(BENIGN).to_dict(),
            "forms": {name: summary.to_dict() for name, summary in self.by_form().items()},
            "families": {name: summary.to_dict() for name, summary in self.by_family().items()},
            "accuracy": self.accuracy.to_dict(),
            "cost": None if self.cost is None else {"perplexity": self.cost.perplexity, "kl": self.cost.kl},
            "refusal": {kind: self.refusal(kind).to_dict() for kind in self.refused},
        }


@dataclass(frozen=True)
class Evaluation:
    """Judged arms and the contrasts between them.

    Attributes:
        title: the feature's name, or the trio's if nothing is ablated.
        arms: in the order of the report.
        results: contrasts between the arms.
        judge: name of the judge.
        provenance: everything needed to repeat the evaluation.
        preference: preference gap of the same arms; None if not measured.
        narrow: preference gap on the task that insecure was trained on; None if not measured.
        by_set: contrasts on the questions of each set apart.
        benign: contrasts on benign questions, which only the judge's errors can make differ; without any if none were asked.
        rubrics: a sentence about the rubrics that answers were scored by.
    """

    title: str
    arms: tuple[ArmEvaluation, ...]
    results: ContrastResults
    judge: str
    provenance: Mapping[str, Any]
    preference: Preference | None = None
    narrow: Preference | None = None
    by_set: Mapping[str, ContrastResults] = field(default_factory=dict)
    benign: ContrastResults = field(default_factory=ContrastResults)
    rubrics: str = ""

    @property
    def net_contrasts(self) -> dict[str, Interval]:
        """Every contrast minus the same one on benign questions; empty where those were not asked."""
        on_benign = {contrast.name: contrast.difference for contrast in self.benign.contrasts}
        return {
            contrast.name: net_of(contrast.difference, on_benign[contrast.name])
            for contrast in self.contrasts
            if contrast.name in on_benign
        }

    @property
    def results_by_set(self) -> dict[str, ContrastResults]:
        """The same estimates on all questions, on each set apart, and on benign questions; those that were compared."""
        sets = self.by_set if len(self.by_set) > 1 else {}
        every = {"all questions": self.results, **sets, "benign": self.benign}
        return {name: results for name, results in every.items() if results.power is not None}

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """Differences between arms, with intervals and tests."""
        return self.results.contrasts

    @property
    def shift(self) -> Interval:
        """Misaligned share of insecure minus that of secure."""
        return self.results.shift

    @property
    def removed(self) -> Interval:
        """Fraction of the shift that the ablation removes; not defined unless the shift excludes 0."""
        return self.results.removed

    @property
    def beyond_random(self) -> Interval:
        """Fraction of the shift that the ablation removes beyond a random direction."""
        return self.results.beyond_random

    def answer_rows(self) -> list[dict[str, Any]]:
        """Every answer of every arm as plain data, one row each, as written to ``answers.parquet``."""
        fields = (
            "question_id",
            "family",
            "form",
            "system",
            "question",
            "sample",
            "seed",
            "answer",
            "distinct",
        )
        return [
            {name: getattr(response, name) for name in fields}
            | {"arm": arm.name, "kind": arm.kind}
            | judged.cells()
            for arm in self.arms
            for response, judged in zip(arm.responses, arm.judged, strict=True)
        ]

    @property
    def sentences(self) -> tuple[str, ...]:
        """The findings in words."""
        n_random = sum(arm.kind == "random" for arm in self.arms)
        return (
            *findings(self.results, n_random, self.preference, self.narrow),
            *set_sentences(self.by_set),
            *benign_sentences(self.benign, self.net_contrasts),
            *([self.rubrics] if self.rubrics else []),
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain data, as written to ``evaluation.json``."""
        record: dict[str, Any] = to_plain_json(
            {
                "schema": "personaprobe-evaluation-1",
                "title": self.title,
                "judge": self.judge,
                "definitions": {definition.name: definition.rule for definition in DEFINITIONS},
                "arms": [arm.to_dict() for arm in self.arms],
                **self.results.to_dict(),
                "sets": {name: results.to_dict() for name, results in self.by_set.items()},
                "benign": self.benign.to_dict(),
                "net_of_benign": {name: net.to_dict() for name, net in self.net_contrasts.items()},
                "preference": None if self.preference is None else self.preference.to_dict(),
                "narrow": None if self.narrow is None else self.narrow.to_dict(),
                "sentences": self.sentences,
                "provenance": self.provenance,
            }
        )
        return record


def contrast_arms(
    arms: Sequence[ArmEvaluation], seed: int, form: str = "plain", among: Container[str] | None = None
) -> ContrastResults:
    """Compare judged arms on the questions of a form to which every arm has a scored answer.

    Args:
        arms: insecure and secure among them.
        seed: of intervals and tests.
        form: of the questions.
        among: ids of questions; all others are left out.

    Returns:
        Without any contrast if those questions are of fewer than two families.
    """
    families, matrices = shared_answers(arms, form, among)
    if len(set(families)) < 2:
        return ContrastResults()
    by_kind: dict[ArmKind, list[Misaligned]] = {}
    for arm, matrix in zip(arms, matrices, strict=True):
        by_kind.setdefault(arm.kind, []).append(matrix)
    return contrast_kinds(families, by_kind, seed)


def shared_answers(
    arms: Sequence[ArmEvaluation], form: str = "plain", among: Container[str] | None = None
) -> tuple[list[str], list[Misaligned]]:
    """The families of the questions to which every arm has a scored answer, and whether each arm's answers are misaligned.

    Args:
        arms: judged.
        form: of the questions.
        among: ids of questions; all others are left out.
    """
    by_arm = [arm.misaligned(form) for arm in arms]
    families = {
        r.question_id: r.family
        for r in arms[0].responses
        if r.form == form and (among is None or r.question_id in among)
    }
    shared = [id_ for id_ in families if all(id_ in questions for questions in by_arm)]
    samples = [sample for questions in by_arm for id_ in shared for sample in questions[id_]]
    n_samples = 1 + max(samples, default=0)
    matrices = [_matrix([questions[id_] for id_ in shared], n_samples) for questions in by_arm]
    return [families[id_] for id_ in shared], matrices


def _matrix(rows: Sequence[Mapping[int, bool]], n_samples: int) -> Misaligned:
    """Lay out samples by question as rows of a matrix, nan where a sample was not scored."""
    cells = [[float(row.get(sample, np.nan)) for sample in range(n_samples)] for row in rows]
    return np.array(cells).reshape(len(rows), n_samples)
