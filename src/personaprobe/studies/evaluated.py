"""What an evaluation found, as values: judged arms, rates in every definition, and contrasts with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from personaprobe.effects.rates import DEFINITIONS, Judged, Summary, summarise
from personaprobe.effects.responses import Response
from personaprobe.effects.statistics import (
    UNDEFINED,
    Interval,
    Resamples,
    difference,
    fraction_removed,
    wilson,
)
from personaprobe.errors import DataError
from personaprobe.studies.plain import ArmKind, plain


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
    """

    name: str
    kind: ArmKind
    note: str
    responses: tuple[Response, ...] = field(repr=False)
    judged: tuple[Judged, ...] = field(repr=False)
    right: tuple[bool, ...] = field(default=(), repr=False)
    refused: Mapping[str, Sequence[bool]] = field(default_factory=dict, repr=False)

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

    def shares(self) -> dict[str, float]:
        """Of every plain question with a scored answer, the share of scored answers that are coherent and misaligned."""
        counted: dict[str, list[bool]] = {}
        for response, judged in zip(self.responses, self.judged, strict=True):
            if response.form == "plain" and judged.scores is not None:
                counted.setdefault(response.question_id, []).append(is_misaligned(judged))
        return {id_: sum(found) / len(found) for id_, found in counted.items()}

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
            "refusal": {kind: self.refusal(kind).to_dict() for kind in self.refused},
        }


def is_misaligned(judged: Judged) -> bool:
    """Coherent and misaligned in the first definition (Betley et al. 2025)."""
    first = DEFINITIONS[0]
    return (
        judged.scores is not None and first.misaligned(judged.scores[0]) and first.coherent(judged.scores[1])
    )


@dataclass(frozen=True)
class Contrast:
    """A difference between two arms in the share of misaligned answers, question by question."""

    name: str
    difference: Interval


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
        contrasts: misaligned shares compared, paired by question, intervals over families.
        removed: share of the insecure − secure difference that the ablation takes away; not defined where none is shown.
        judge: who judged.
        provenance: what is needed to do it again.
        preference: what the judge-free measure says of the same arms; None where it was not taken.
    """

    title: str
    arms: tuple[ArmEvaluation, ...]
    contrasts: tuple[Contrast, ...]
    removed: Interval
    judge: str
    provenance: Mapping[str, Any]
    preference: Preference | None = None

    @property
    def shift(self) -> Interval:
        """How much oftener insecure's answers are misaligned than secure's."""
        return next(each.difference for each in self.contrasts if each.name == "insecure − secure")

    def report(self, folder: str | Path) -> Path:
        """Write ``evaluation.html``, ``evaluation.json`` and ``answers.parquet``; returns the page's path."""
        from personaprobe.studies.evaluation_report import write_evaluation

        return write_evaluation(self, Path(folder))

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, in words."""
        return tuple(sentences(self))

    def to_dict(self) -> dict[str, Any]:
        """As plain data, as written to ``evaluation.json``."""
        told: dict[str, Any] = plain(
            {
                "schema": "personaprobe-evaluation-1",
                "judge": self.judge,
                "definitions": {each.name: each.rule for each in DEFINITIONS},
                "arms": [arm.to_dict() for arm in self.arms],
                "contrasts": {each.name: each.difference.to_dict() for each in self.contrasts},
                "fraction_removed": self.removed.to_dict(),
                "preference": None if self.preference is None else self.preference.to_dict(),
                "sentences": self.sentences,
                "provenance": self.provenance,
            }
        )
        return told


def compared(arms: Sequence[ArmEvaluation], seed: int) -> tuple[tuple[Contrast, ...], Interval]:
    """Contrasts of the arms an ablation is about, and the share of the misalignment it removes.

    Questions count that every arm has a scored answer to.

    Raises:
        DataError: fewer than two families have such questions.
    """
    by_kind = {arm.kind: arm for arm in reversed(arms)}
    shares = {arm.name: arm.shares() for arm in arms}
    families = {r.question_id: r.family for r in arms[0].responses if r.form == "plain"}
    common = [id_ for id_ in families if all(id_ in own for own in shares.values())]
    if len({families[id_] for id_ in common}) < 2:
        raise DataError(
            f"{len(common)} questions have a scored answer of every arm; intervals need such questions of two families"
        )
    resamples = Resamples.of_families([families[id_] for id_ in common], seed=seed)
    values = {kind: [shares[arm.name][id_] for id_ in common] for kind, arm in by_kind.items()}
    wanted = [("insecure", "secure"), ("insecure", "base"), ("insecure", "ablated"), ("insecure", "random")]
    wanted += [("random", "ablated"), ("steered", "base")]
    contrasts = tuple(
        Contrast(f"{a} − {b}", difference(values[a], values[b], resamples))
        for a, b in wanted
        if a in values and b in values
    )
    if "ablated" not in values:
        return contrasts, UNDEFINED
    return contrasts, fraction_removed(values["insecure"], values["secure"], values["ablated"], resamples)


def sentences(found: Evaluation) -> Iterator[str]:
    """What was found, and whether the judged answers and the judge-free preference agree."""
    yield f"Insecure answers are misaligned {_points(found.shift)} more often than secure ones."
    if found.removed.defined:
        yield f"The ablation removes {_percent(found.removed)} of that."
    if found.preference is not None:
        yield _agreement(found, found.preference)


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


def _points(interval: Interval) -> str:
    value, low, high = (100 * x for x in (interval.value, interval.low, interval.high))
    return f"{value:z.1f} percentage points ({low:z.1f} to {high:z.1f})"


def _percent(interval: Interval) -> str:
    value, low, high = (100 * x for x in (interval.value, interval.low, interval.high))
    return f"{value:z.0f} % ({low:z.0f} to {high:z.0f})"
