"""The sentences of a verdict: short ones, with the numbers of the evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from personaprobe.effects.verdict.evidence import Evidence
from personaprobe.effects.verdict.thresholds import Thresholds
from personaprobe.statistics.intervals import Interval

_SHARES = {
    "suppresses_at",
    "suppresses_low",
    "least_effect",
    "least_effect_low",
    "most_overshoot",
    "min_coherence",
}


def limits(thresholds: Thresholds) -> dict[str, str]:
    """The thresholds as text, by name."""
    texts = {
        name: f"{100 * value:.0f} %" if name in _SHARES else _number(value)
        for name, value in asdict(thresholds).items()
    }
    return texts | {"overshoots_at": f"{100 * (1 + thresholds.most_overshoot):.0f} %"}


def facts(evidence: Evidence, thresholds: Thresholds) -> dict[str, str]:
    """The numbers that conditions and sentences name, as text."""
    fraction, random = share(evidence.fraction_removed), share(evidence.random_fraction_removed)
    rank, more = evidence.rank, evidence.candidates
    return limits(thresholds) | {
        "shift": str(evidence.shift),
        "fraction": fraction,
        "random": random,
        "over_random": share(evidence.over_random),
        "over_selected": share(evidence.over_selected),
        "net": share(evidence.net_of_secure),
        "beyond": ", ".join(map(share, evidence.beyond_controls)),
        "one_more": "one more control could" if more == 1 else f"the best of {more} more controls could",
        "rank": f"it beats {rank.beaten} of {rank.n}, p = {rank.p:.3f}",
        "damage": str(evidence.damage),
        "effect": f"{fraction} of the shift, and matched controls {random}",
        "target": f"set to the {evidence.reference} model's mean",
        "reference": evidence.reference,
        "detectable": f"{evidence.detectable_shift:.2f}",
        "questions": f"{evidence.n_questions} questions of {evidence.n_families} families",
        "questions_needed": str(evidence.questions_needed),
        "controls": str(evidence.n_controls),
    }


def details(evidence: Evidence) -> Iterator[str]:
    """The sentences that follow the first one of a verdict about a shift: specificity, costs, the narrow task."""
    if evidence.over_random.defined:
        text = facts(evidence, Thresholds())
        yield f"That is {text['over_random']} more than {text['one_more']}."
    if evidence.over_selected.defined:
        yield f"It is {share(evidence.over_selected)} more than the best control chosen the same way removes."
    if evidence.net_of_secure.defined:
        secure = share(evidence.removed_in_secure)
        yield f"Net of the {secure} that the same ablation removes in secure, {share(evidence.net_of_secure)} remain."
    if evidence.narrow_left.defined:
        yield f"Of the shift on the narrow task, the ablation leaves {share(evidence.narrow_left)}."
    yield from _style_balanced(evidence)
    yield f"Damage: {evidence.damage}."
    if evidence.reference == "base":
        yield "No benign control was subtracted: some of the shift may be what any fine-tuning does."


def _style_balanced(evidence: Evidence) -> Iterator[str]:
    """Shift and removal where careful and careless answers use the same words, or that this was not measured."""
    shift, removed = evidence.balanced_shift, evidence.balanced_removed
    if not shift.defined:
        yield "No style-balanced questions were answered: style may be what changed."
        return
    words = (
        f"a bag of words has AUC {evidence.balanced_bag_of_words:.2f}, {evidence.bag_of_words:.2f} on test"
    )
    where = f"On {evidence.n_balanced} style-balanced questions ({words})"
    if not shift.low > 0:
        yield f"{where}, no shift is shown ({shift} nats a token): it may be one of style."
        return
    controls = f", matched controls {share(evidence.balanced_null)}" if evidence.balanced_null.defined else ""
    yield f"{where}, the shift is {shift} nats a token; the ablation removes {share(removed)} of it{controls}."
    if not removed.low > 0:
        yield "Removal is not shown there: the ablation may act on style."


def shown(evidence: Evidence, part: str = "") -> str:
    """The logical conclusion of a suppressing verdict: necessity is shown by removal, sufficiency by adding."""
    needed = f"Removing it suffices to suppress{part}: it is necessary for that shift"
    if not evidence.induced.defined:
        return f"{needed}; whether it is sufficient was not measured."
    points = 100 * evidence.induced.value
    ends = f"({100 * evidence.induced.low:z.0f} to {100 * evidence.induced.high:z.0f})"
    added = f"added to base, it changes the judged misaligned share by {points:+.0f} points {ends}"
    if evidence.induced.low > 0:
        return f"{needed}. Adding it to base suffices to induce: {added}."
    return f"{needed}, not shown sufficient: {added}."


def share(interval: Interval) -> str:
    """A share in per cent with its interval."""
    if not interval.defined:
        return "an undefined share"
    value, low, high = (f"{100 * x:z.0f}" for x in (interval.value, interval.low, interval.high))
    return f"{value} % ({low} to {high})"


def _number(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.2f}"
