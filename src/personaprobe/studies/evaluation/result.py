"""What an evaluation found, as values: judged arms, rates in every definition, and what follows, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from personaprobe.effects.judges.rates import DEFINITIONS, Judged, Summary, is_misaligned, summarise
from personaprobe.effects.measures.damage import TextCost
from personaprobe.effects.measures.responses import Response
from personaprobe.statistics.hypothesis_tests import MIN_FAMILIES
from personaprobe.statistics.intervals import UNDEFINED, Interval, wilson
from personaprobe.storage.plain_json import to_plain_json
from personaprobe.studies.arms.kinds import ArmKind
from personaprobe.studies.evaluation.contrasts import (
    LEAST_CONTROLS,
    WORTH_SEEING,
    Contrast,
    Marks,
    Power,
    Weighed,
    weigh,
)


@dataclass(frozen=True)
class ArmEvaluation:
    """One arm's judged answers and marks.

    Attributes:
        name: unique in the evaluation.
        kind: what the arm is for.
        note: what is done to it.
        responses: answers, the plain questions first.
        judged: of each answer.
        right: which exercises it got right; none where no exam was held.
        refused: which requests it refused, by kind.
        cost: how it reads neutral text, beside its own checkpoint untouched; None where that was not measured.
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
        """Rates over the answers to questions in one form, of one family or of all."""
        return summarise(
            [
                judged
                for response, judged in zip(self.responses, self.judged, strict=True)
                if response.form == form and family in (None, response.family)
            ]
        )

    def by_form(self) -> dict[str, Summary]:
        """Rates by the form of the question."""
        return {form: self.summary(form) for form in dict.fromkeys(r.form for r in self.responses)}

    def by_family(self) -> dict[str, Summary]:
        """Rates by the family of the question, plain questions only."""
        families = dict.fromkeys(r.family for r in self.responses if r.form == "plain")
        return {family: self.summary(family=family) for family in families}

    def marks(self) -> dict[str, dict[int, bool]]:
        """Of every plain question, which scored answers (by sample) are coherent and misaligned."""
        found: dict[str, dict[int, bool]] = {}
        for response, judged in zip(self.responses, self.judged, strict=True):
            if response.form == "plain" and judged.scores is not None:
                found.setdefault(response.question_id, {})[response.sample] = is_misaligned(judged)
        return found

    def refusal(self, kind: str) -> Interval:
        """Share of requests of a kind that were refused."""
        marks = self.refused.get(kind, ())
        return wilson(sum(marks), len(marks)) if marks else UNDEFINED

    @property
    def accuracy(self) -> Interval:
        """Share of exercises that were right."""
        return wilson(sum(self.right), len(self.right)) if self.right else UNDEFINED

    def to_dict(self) -> dict[str, Any]:
        """As plain data, without the answers."""
        return {
            "name": self.name,
            "kind": self.kind,
            "note": self.note,
            "plain": self.summary().to_dict(),
            "forms": {name: summary.to_dict() for name, summary in self.by_form().items()},
            "families": {name: summary.to_dict() for name, summary in self.by_family().items()},
            "accuracy": self.accuracy.to_dict(),
            "cost": None if self.cost is None else asdict(self.cost),
            "refusal": {kind: self.refusal(kind).to_dict() for kind in self.refused},
        }


@dataclass(frozen=True)
class Preference:
    """The judge-free measure, beside the judged one.

    Attributes:
        shift: insecure − secure preference for careless answers, nats a token.
        removed: share of it that the ablation removes.
    """

    shift: Interval
    removed: Interval

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"shift": self.shift.to_dict(), "fraction_removed": self.removed.to_dict()}


@dataclass(frozen=True)
class Evaluation:
    """Judged arms and what follows.

    Attributes:
        title: the feature's name, or the trio's where nothing is ablated.
        arms: all of them.
        weighed: what follows from their answers.
        judge: who judged.
        provenance: what is needed to do it again.
        preference: what the judge-free measure says of the same arms; None where it was not taken.
        narrow: the same of the task that insecure was trained on.
    """

    title: str
    arms: tuple[ArmEvaluation, ...]
    weighed: Weighed
    judge: str
    provenance: Mapping[str, Any]
    preference: Preference | None = None
    narrow: Preference | None = None

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """Arms compared, with intervals and tests."""
        return self.weighed.contrasts

    @property
    def shift(self) -> Interval:
        """How much oftener insecure's answers are misaligned than secure's."""
        return self.weighed.shift

    @property
    def removed(self) -> Interval:
        """Share of the shift that the ablation takes away; not defined where none is shown."""
        return self.weighed.removed

    @property
    def beyond_random(self) -> Interval:
        """Share of the shift that the ablation takes away beyond a random direction."""
        return self.weighed.beyond_random

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
        """What was found, in words."""
        return tuple(sentences(self))

    def to_dict(self) -> dict[str, Any]:
        """As plain data, as written to ``evaluation.json``."""
        told: dict[str, Any] = to_plain_json(
            {
                "schema": "personaprobe-evaluation-1",
                "title": self.title,
                "judge": self.judge,
                "definitions": {each.name: each.rule for each in DEFINITIONS},
                "arms": [arm.to_dict() for arm in self.arms],
                **self.weighed.to_dict(),
                "preference": None if self.preference is None else self.preference.to_dict(),
                "narrow": None if self.narrow is None else self.narrow.to_dict(),
                "sentences": self.sentences,
                "provenance": self.provenance,
            }
        )
        return told


def compared(arms: Sequence[ArmEvaluation], seed: int) -> Weighed:
    """Weigh the arms an ablation is about.

    Questions count that every arm has a scored answer to; where they are of fewer than two families, nothing follows.
    """
    marks = {arm.name: arm.marks() for arm in arms}
    families = {r.question_id: r.family for r in arms[0].responses if r.form == "plain"}
    common = [id_ for id_ in families if all(id_ in own for own in marks.values())]
    if len({families[id_] for id_ in common}) < 2:
        return Weighed()
    samples = 1 + max(sample for own in marks.values() for id_ in common for sample in own[id_])
    by_kind: dict[ArmKind, list[Marks]] = {}
    for arm in arms:
        by_kind.setdefault(arm.kind, []).append(_laid_out([marks[arm.name][id_] for id_ in common], samples))
    return weigh([families[id_] for id_ in common], by_kind, seed)


def _laid_out(marks: Sequence[Mapping[int, bool]], samples: int) -> Marks:
    """Marks by question as rows, nan where a sample was not scored."""
    return np.array([[float(own.get(sample, np.nan)) for sample in range(samples)] for own in marks])


def sentences(found: Evaluation) -> Iterator[str]:
    """What was found, what could have been, and whether judged answers and judge-free preference agree."""
    power = found.weighed.power
    if power is None:
        yield "Arms cannot be compared: questions to which every one has a scored answer are of fewer than two families."
        return
    yield f"Insecure answers are misaligned {_points(found.shift)} more often than secure ones."
    if found.removed.defined:
        yield f"The ablation removes {_percent(found.removed)} of that."
        yield _beyond(found)
    yield power_sentence(power)
    if found.preference is not None:
        yield _agreement(found, found.preference)
    if found.narrow is not None:
        yield _retention(found.narrow)


def _beyond(found: Evaluation) -> str:
    """What random directions leave of the ablation's effect, or what it takes to say so."""
    controls = sum(arm.kind == "random" for arm in found.arms)
    if controls < LEAST_CONTROLS:
        return f"Whether random directions do as much is told by {LEAST_CONTROLS} or more of them; there were {controls}."
    if not found.beyond_random.low > 0:
        return (
            f"It may be no more than a random direction does: beyond that, {_percent(found.beyond_random)}."
        )
    return f"Beyond what a random direction does, it removes {_percent(found.beyond_random)}."


def power_sentence(power: Power) -> str:
    """What these answers could have shown, and how many it takes to show a difference worth seeing."""
    came = f"{power.n} scored answers an arm, of {power.clustered.n_families} families"
    if power.clustered.n_families < MIN_FAMILIES:
        return f"{came}, show no difference at the 5 % level: that takes {MIN_FAMILIES} families."
    smallest = (
        f"{100 * power.detectable:.1f} percentage points" if math.isfinite(power.detectable) else "no size"
    )
    return (
        f"{came}, would show a difference of {smallest} from secure's {100 * power.rate:.1f} % four times in five; "
        f"one of {100 * WORTH_SEEING:.0f} takes {power.answers_needed} answers an arm, in families as large."
    )


def _agreement(found: Evaluation, preference: Preference) -> str:
    """Both measures side by side; they disagree where one shows what the other's interval excludes."""
    told = f"The preference for careless answers shifts by {preference.shift} nats a token"
    if preference.removed.defined:
        told += f", of which the ablation removes {_percent(preference.removed)}"
    if preference.shift.low > 0 and not found.shift.low > 0:
        return f"{told}. The two measures disagree: the preference shows a shift, the judged answers do not."
    if found.shift.low > 0 and not preference.shift.low > 0:
        return f"{told}. The two measures disagree: the judged answers show a shift, the preference does not."
    both = found.removed, preference.removed
    if all(each.defined for each in both) and (both[0].low > both[1].high or both[1].low > both[0].high):
        return f"{told}. The two measures disagree about how much the ablation removes: their intervals do not meet."
    return f"{told}. The two measures agree within their intervals."


def _retention(narrow: Preference) -> str:
    """What becomes of the narrow task."""
    told = f"On the narrow task itself the preference shifts by {narrow.shift} nats a token"
    if not narrow.removed.defined:
        return f"{told}."
    value, low, high = narrow.removed.value, narrow.removed.low, narrow.removed.high
    return f"{told}; the ablation leaves {_percent(Interval(1 - value, 1 - high, 1 - low))} of that."


def _points(interval: Interval) -> str:
    value, low, high = (100 * x for x in (interval.value, interval.low, interval.high))
    return f"{value:z.1f} percentage points ({low:z.1f} to {high:z.1f})"


def _percent(interval: Interval) -> str:
    value, low, high = (100 * x for x in (interval.value, interval.low, interval.high))
    return f"{value:z.0f} % ({low:z.0f} to {high:z.0f})"
