"""The page of an ablation study, ``report.html``, rendered from ``verdict.json`` and ``responses.parquet``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from personaprobe.effects.interventions.energy import FAIR, MOST_UNFAIR
from personaprobe.effects.verdict import THRESHOLDS, Thresholds, rules
from personaprobe.effects.verdict.thresholds import ADDED
from personaprobe.models.massive_tokens import MassiveToken
from personaprobe.studies.arms.kinds import SPEAKING, ArmKind
from personaprobe.studies.reports.figures.dose_response import dose_figure
from personaprobe.studies.reports.figures.gaps import arms_figure, family_figure
from personaprobe.studies.reports.figures.panels import figure_json
from personaprobe.studies.reports.figures.removed import removed_figure
from personaprobe.studies.reports.figures.styles import STYLES
from personaprobe.studies.reports.figures.sweep_map import feature_sweep_map
from personaprobe.studies.reports.page import (
    figure_scripts,
    flat,
    interval,
    interval_ends,
    number,
    render_template,
    share,
    styled,
    times,
)
from personaprobe.studies.reports.sections import Rows, outside_sections

SCHEMA = "personaprobe-verdict-4"
"""The format of ``verdict.json`` whose rules are those of this version."""

DRAWN = ("evidence.sweep", "evidence.singles", "evidence.sets", "evidence.ranks")
"""Parts of a feature's evidence that the list of its fields leaves out: they are drawn, or too long."""


@dataclass(frozen=True)
class SampledAnswer:
    """One sampled answer as the page shows it."""

    arm: str
    kind: ArmKind
    sample: int
    text: str
    coherent: bool


@dataclass(frozen=True)
class QuestionCard:
    """The answers to one question.

    Attributes:
        family: of the question.
        question: its text.
        shown: the first sample of one arm of each kind, side by side.
        others: all other answers, folded away.
    """

    family: str
    question: str
    shown: tuple[SampledAnswer, ...]
    others: tuple[SampledAnswer, ...]


def render_ablation(data: Mapping[str, Any], answers: Rows) -> str:
    """The page as text. Its policy forbids the browser to load anything, and to run scripts other than its own two.

    Args:
        data: the verdict as plain data (``verdict.json``).
        answers: the sampled answers (``responses.parquet``); empty where none were sampled or recorded.
    """
    thresholds = Thresholds(**data["thresholds"])
    table = rules(thresholds) if data["schema"] == SCHEMA else ()
    controls = [arm for arm in data["arms"] if arm["strengths"]]
    lowest = data["coherence_rule"]["lowest_log_prob"]
    provenance = data["provenance"]
    return render_template(
        "ablation.html.jinja",
        data=data,
        css=styled(),
        styles=STYLES,
        controls=controls,
        lowest_log_prob=-math.inf if lowest is None else lowest,
        infinity=math.inf,
        fewest=min(arm["n_questions"] for arm in data["arms"]),
        deciding_questions=max((arm["n_questions"] for arm in controls), default=0),
        default_thresholds=thresholds == THRESHOLDS,
        organism=provenance.get("organism", ""),
        first_tokens=(provenance.get("plan") or {}).get("first_tokens"),
        massive=[MassiveToken(**token) for token in provenance.get("massive_tokens", ())],
        fair=FAIR,
        most_unfair=MOST_UNFAIR,
        numbers=key_numbers(data),
        figures=_figures(data),
        n_responses=sum(arm["n_responses"] for arm in data["arms"]),
        cards=list(question_cards(data, answers)),
        rules=table,
        added=ADDED,
        deciding_rule=data["rule"] if table else None,
        sections=outside_sections("ablation", data, answers),
        provenance=list(flat(provenance)),
        feature=[line for line in flat(data["feature"]) if not line[0].startswith(DRAWN)],
        **figure_scripts(),
    )


def key_numbers(data: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The numbers that the verdict rests on: name, value, and the interval or the limit beside it."""
    damage, limits = data["damage"], data["thresholds"]
    shares = {
        "of the shift removed": data["fraction_removed"],
        "removed by random directions of the same energy": data["random_fraction_removed"],
        "removed beyond random": data["over_random"],
    }
    detectable = f"would show a shift of {number(data['detectable_shift'])}"
    return [
        *((name, share(part["value"]), interval_ends(part, share)) for name, part in shares.items()),
        ("shift, nats per token", number(data["shift"]["value"]), interval_ends(data["shift"])),
        _cost("perplexity, relative", damage["perplexity_ratio"], times, limits["max_perplexity_ratio"]),
        _cost("KL on prose, nats per token", damage["kl"], number, limits["max_kl"]),
        _cost("KL on chat answers, nats per token", damage["chat_kl"], number, limits["max_kl"]),
        _cost("coherent answers, relative", damage["coherence"], share, limits["min_coherence"]),
        (f"questions of {data['n_families']} families", str(data["n_questions"]), detectable),
        *_specificity(data),
        *_style(data),
    ]


MORE_SHARES = {
    "net_of_secure": "removed, net of what the same ablation removes in secure",
    "over_selected": "removed beyond the best of as many candidates",
    "removed_in_base": "removed by the same ablation in base",
    "null_in_secure": "removed by matched controls in secure",
    "narrow_left": "of the shift on the narrow task left",
    "balanced_removed": "removed on style-balanced questions",
    "balanced_null": "removed by matched controls on style-balanced questions",
    "induced": "more misaligned answers of base, steered",
}
"""Further shares of a verdict, where they were measured."""


def _style(data: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """How far words alone go, and the shift where they do not; earlier versions did not measure it."""
    shift = data.get("balanced_shift")
    if shift and shift["value"] is not None:
        ends = interval_ends(shift)
        yield "shift on style-balanced questions, nats per token", number(shift["value"]), ends
    for key, questions in (("bag_of_words", "test"), ("balanced_bag_of_words", "style-balanced")):
        if data.get(key) is not None:
            yield f"AUC of a bag of words, {questions} answers", number(data[key]), "trained on discovery"


def _specificity(data: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Rank, shares in other checkpoints and clustering; verdicts of earlier versions have none of them."""
    if rank := data.get("rank"):
        yield (
            "controls beaten",
            f"{rank['beaten']:.0f} of {rank['n']:.0f}",
            f"two-sided p = {number(rank['p'])}",
        )
    for key, name in MORE_SHARES.items():
        part = data.get(key)
        if part and part["value"] is not None:
            yield name, share(part["value"]), interval_ends(part, share)
    if clustering := data.get("clustering"):
        effective = f"{number(clustering['effective_families'], 1)} effective families"
        wrong = f"{share(clustering['wrong_way'])} of the questions moved the wrong way"
        yield "design effect of families", number(clustering["design_effect"]), f"{effective}; {wrong}"


def _cost(
    name: str, measured: Mapping[str, float | None], spell: Callable[[float | None], str], limit: float
) -> tuple[str, str, str]:
    """A measure of damage: its name, its value, and its interval with the limit; only the limit where it has no width."""
    ends = interval(measured)
    has_width = ends.defined and ends.low < ends.high
    between = f"{spell(ends.low)} to {spell(ends.high)}, " if has_width else ""
    return name, spell(measured["value"]), f"{between}limit {spell(limit)}"


def question_cards(data: Mapping[str, Any], answers: Rows) -> Iterator[QuestionCard]:
    """The sampled answers by question, in the order in which questions were sampled."""
    first = {
        kind: next((arm["name"] for arm in data["arms"] if arm["kind"] == kind), "") for kind in SPEAKING
    }
    by_question: dict[str, list[Mapping[str, Any]]] = {}
    for row in answers:
        by_question.setdefault(row["question_id"], []).append(row)
    for rows in by_question.values():
        lead = min(row["sample"] for row in rows)
        is_shown = [row["sample"] == lead and first.get(row["kind"]) == row["arm"] for row in rows]
        shown = tuple(_answer(row) for row, beside in zip(rows, is_shown, strict=True) if beside)
        others = tuple(_answer(row) for row, beside in zip(rows, is_shown, strict=True) if not beside)
        yield QuestionCard(rows[0]["family"], rows[0]["question"], shown, others)


def _answer(row: Mapping[str, Any]) -> SampledAnswer:
    return SampledAnswer(row["arm"], row["kind"], row["sample"], row["answer"].strip(), row["coherent"])


def _figures(data: Mapping[str, Any]) -> dict[str, Any]:
    """The figures as JSON; those without data are left out."""
    from markupsafe import Markup

    figures = {
        "arms": arms_figure(data),
        "removed": removed_figure(data),
        "sweep": feature_sweep_map(data),
        "doses": dose_figure(data),
        "families": family_figure(data),
    }
    return {name: Markup(figure_json(figure)) for name, figure in figures.items() if figure is not None}
