"""The findings of an evaluation in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from personaprobe.statistics.families import FamilySummary
from personaprobe.statistics.hypothesis_tests import MIN_FAMILIES
from personaprobe.statistics.intervals import Interval
from personaprobe.studies.evaluation.contrasts import (
    MIN_RANDOM_ARMS,
    RELEVANT_DIFFERENCE,
    ContrastResults,
    Power,
)
from personaprobe.studies.evaluation.preference_result import Preference


def findings(
    results: ContrastResults,
    n_random_arms: int,
    preference: Preference | None = None,
    narrow: Preference | None = None,
) -> Iterator[str]:
    """Describe the shift, its removal, the power of the comparison, and the agreement with the preference gap.

    Args:
        results: contrasts between judged arms.
        n_random_arms: number of arms with a random direction ablated.
        preference: preference gap of the same arms; None if not measured.
        narrow: preference gap on the narrow task; None if not measured.
    """
    if results.power is None:
        yield (
            "Arms cannot be compared: questions to which every one has a scored answer are of fewer than two families."
        )
        return
    yield f"Insecure answers are misaligned {_points(results.shift)} more often than those of {results.reference}."
    if results.removed.defined:
        yield f"The ablation removes {_percent(results.removed)} of that."
        yield _beyond_random(results.beyond_random, n_random_arms)
    if results.reference == "base":
        yield "No benign control was subtracted: harmless training may do a part of this."
    yield power_sentence(results.power, results.reference)
    if results.clustering is not None:
        yield clustering_sentence(results.clustering)
    if preference is not None:
        yield _agreement(results, preference)
    if narrow is not None:
        yield _retention(narrow)


def set_sentences(by_set: Mapping[str, ContrastResults]) -> Iterator[str]:
    """The shift on every set of questions apart, families weighed equally; nothing for a single set."""
    for name, results in by_set.items() if len(by_set) > 1 else ():
        if results.power is None:
            yield f"On {name} alone, arms cannot be compared: its scored questions are of fewer than two families."
            continue
        n, families = results.power.n, results.power.clustered.n_families
        removed = (
            f"; the ablation removes {_percent(results.removed)} of that" if results.removed.defined else ""
        )
        answers = f"{n} scored answers an arm, {families} families"
        yield f"On {name} alone ({answers}): {_points(results.shift)} more often{removed}."


def benign_sentences(benign: ContrastResults, net: Mapping[str, Interval]) -> Iterator[str]:
    """How much of the contrast the judge's errors on benign questions account for."""
    if benign.power is None or not net:
        return
    yield (
        f"On benign questions the judge calls insecure answers misaligned {_points(benign.shift)} more often than those "
        f"of {benign.reference}, though none can be; net of that, the difference is {_points(next(iter(net.values())))}."
    )


def power_sentence(power: Power, reference: str = "secure") -> str:
    """The differences that this many answers detect, and how many answers a relevant difference takes."""
    answers = f"{power.n} scored answers per arm, of {power.clustered.n_families} families"
    if power.clustered.n_families < MIN_FAMILIES:
        return f"{answers}, show no difference at the 5 % level: that takes {MIN_FAMILIES} families."
    smallest = (
        f"{100 * power.detectable:.1f} percentage points" if math.isfinite(power.detectable) else "no size"
    )
    return (
        f"{answers}, detect a difference of {smallest} from {reference}'s {100 * power.rate:.1f} % with 80 % power; "
        f"a difference of {100 * RELEVANT_DIFFERENCE:.0f} points takes {power.answers_needed} answers per arm, in "
        "families as large."
    )


def clustering_sentence(clustering: FamilySummary) -> str:
    """How much the questions of a family resemble each other, and how many questions moved against the rest."""
    wrong = f"{100 * clustering.wrong_way:.0f} % of the questions moved the wrong way"
    return f"Every family weighs the same: {clustering}; {wrong}."


def _beyond_random(beyond: Interval, n_random_arms: int) -> str:
    """Whether the ablation removes more than a random direction does, or how many controls would show it."""
    if n_random_arms < MIN_RANDOM_ARMS:
        return (
            f"Whether random directions do as much is shown by {MIN_RANDOM_ARMS} or more of them; "
            f"there were {n_random_arms}."
        )
    if not beyond.low > 0:
        return f"It may be no more than a random direction does: beyond that, {_percent(beyond)}."
    return f"Beyond what a random direction does, it removes {_percent(beyond)}."


def _agreement(results: ContrastResults, preference: Preference) -> str:
    """Compare judged answers with the preference gap; they disagree if one excludes the other's finding."""
    shift = f"The preference for careless answers shifts by {preference.shift} nats a token"
    if preference.removed.defined:
        shift += f", of which the ablation removes {_percent(preference.removed)}"
    if preference.shift.low > 0 and not results.shift.low > 0:
        return f"{shift}. The two measures disagree: the preference shows a shift, the judged answers do not."
    if results.shift.low > 0 and not preference.shift.low > 0:
        return (
            f"{shift}. The two measures disagree: the judged answers show a shift, the preference does not."
        )
    judged, preferred = results.removed, preference.removed
    if judged.defined and preferred.defined and (judged.low > preferred.high or preferred.low > judged.high):
        return f"{shift}. The two measures disagree about how much the ablation removes: their intervals do not meet."
    return f"{shift}. The two measures agree within their intervals."


def _retention(narrow: Preference) -> str:
    """How much of the narrow task the ablation leaves."""
    shift = f"On the narrow task itself the preference shifts by {narrow.shift} nats a token"
    if not narrow.removed.defined:
        return f"{shift}."
    value, low, high = narrow.removed.value, narrow.removed.low, narrow.removed.high
    return f"{shift}; the ablation leaves {_percent(Interval(1 - value, 1 - high, 1 - low))} of that."


def _points(interval: Interval) -> str:
    value, low, high = (100 * x for x in (interval.value, interval.low, interval.high))
    return f"{value:z.1f} percentage points ({low:z.1f} to {high:z.1f})"


def _percent(interval: Interval) -> str:
    value, low, high = (100 * x for x in (interval.value, interval.low, interval.high))
    return f"{value:z.0f} % ({low:z.0f} to {high:z.0f})"
