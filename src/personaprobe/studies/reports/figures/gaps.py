"""Figures of preference gaps: all arms with their intervals, and the arms by family of questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from personaprobe.statistics.intervals import Interval
from personaprobe.studies.arms.kinds import ArmKind
from personaprobe.studies.reports.figures.panels import (
    GAP_TITLE,
    add_headline,
    label,
    marker,
    panels,
    wrapped,
)
from personaprobe.studies.reports.figures.styles import FAINT, STYLES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


LEVELS: tuple[ArmKind, ...] = ("base", "secure", "further secure", "insecure", "ablated", "steered")
"""Kinds of arms whose level of preference is drawn; of all others the paired difference says more."""


def arms_figure(data: Mapping[str, Any]) -> Figure:
    """The mean preference gap of the checkpoints, of insecure with the feature ablated and of base steered, with intervals.

    The shift from the reference (secure, or base without one) to insecure is shaded.

    Args:
        data: a verdict as plain data (``verdict.json``).
    """
    arms = [arm for arm in data["arms"] if arm["kind"] in LEVELS]
    figure = panels([30 + 28 * len(arms)])
    for kind in STYLES:
        members = [arm for arm in arms if arm["kind"] == kind]
        if members:
            _add_arms(figure, kind, members)
    figure.update_yaxes(categoryorder="array", categoryarray=[label(arm["name"]) for arm in reversed(arms)])
    figure.update_xaxes(title_text=GAP_TITLE)
    reference, insecure = reference_gap(data), mean_gap(data, "insecure")
    figure.add_vrect(reference, insecure, fillcolor=STYLES["insecure"].color, opacity=0.1, line_width=0)
    add_headline(figure, "shift", x=(reference + insecure) / 2, xref="x")
    return figure


def first_arm(data: Mapping[str, Any], kind: ArmKind) -> Mapping[str, Any]:
    """The first arm of a kind."""
    for arm in data["arms"]:
        if arm["kind"] == kind:
            return dict(arm)
    raise KeyError(f"no arm of kind {kind}")


def mean_gap(data: Mapping[str, Any], kind: ArmKind) -> float:
    """The mean preference gap of the first arm of a kind, nats per token."""
    return Interval.from_dict(first_arm(data, kind)["gap"]).value


def reference_kind(data: Mapping[str, Any]) -> ArmKind:
    """The kind of arm that insecure is compared with: ``secure``, or ``base`` where no benign control was subtracted."""
    return "base" if data.get("reference") == "base" else "secure"


def reference_gap(data: Mapping[str, Any]) -> float:
    """The mean preference gap that the shift is taken from: of base, or over all harmless fine-tunes."""
    kinds = ("base",) if reference_kind(data) == "base" else ("secure", "further secure")
    return fmean(Interval.from_dict(arm["gap"]).value for arm in data["arms"] if arm["kind"] in kinds)


def _add_arms(figure: Figure, kind: ArmKind, arms: Sequence[Mapping[str, Any]]) -> None:
    gaps = [Interval.from_dict(arm["gap"]) for arm in arms]
    above, below = [gap.high - gap.value for gap in gaps], [gap.value - gap.low for gap in gaps]
    figure.add_scatter(
        x=[gap.value for gap in gaps],
        y=[label(arm["name"]) for arm in arms],
        error_x={"array": above, "arrayminus": below, "thickness": 1.5, "width": 4},
        mode="markers",
        marker=marker(kind),
        name=kind,
        hovertext=[wrapped(arm["name"], str(gap), arm["note"]) for arm, gap in zip(arms, gaps, strict=True)],
        hoverinfo="text",
    )


def family_figure(data: Mapping[str, Any]) -> Figure:
    """The mean gap of the reference, insecure and ablated in every family, ordered by the size of the shift.

    Args:
        data: a verdict as plain data (``verdict.json``).
    """
    gaps = data["family_gaps"]
    reference = reference_kind(data)
    ordered = sorted(gaps, key=lambda family: gaps[family]["insecure"] - gaps[family][reference])
    labels = [label(family) for family in ordered]
    figure = panels([30 + 32 * len(ordered)])
    means: dict[ArmKind, list[float]] = {}
    for kind in (reference, "insecure", "ablated"):
        name = first_arm(data, kind)["name"]
        means[kind] = [gaps[family][name] for family in ordered]
    shift, effect = (means[reference], means["insecure"]), (means["insecure"], means["ablated"])
    _add_bars(figure, labels, shift, f"shift: {reference} to insecure", {"color": FAINT, "width": 9})
    green = {"color": STYLES["ablated"].color, "width": 2}
    _add_bars(figure, labels, effect, "effect: insecure to ablated", green)
    for kind, values in means.items():
        hover = {"name": kind, "hovertemplate": f"%{{y}}, {kind}: %{{x:.2f}}<extra></extra>"}
        figure.add_scatter(x=values, y=labels, mode="markers", marker=marker(kind), **hover)
    figure.update_yaxes(categoryorder="array", categoryarray=labels)
    figure.update_xaxes(title_text=GAP_TITLE)
    return figure


def _add_bars(
    figure: Figure,
    labels: Sequence[str],
    ends: tuple[list[float], list[float]],
    name: str,
    line: dict[str, Any],
) -> None:
    """Draw one horizontal bar per label, from the first end to the second."""
    x = [x for pair in zip(*ends, strict=True) for x in (*pair, None)]  # None separates the bars
    y = [y for label in labels for y in (label, label, None)]
    figure.add_scatter(x=x, y=y, mode="lines", line=line, name=name, hoverinfo="skip")
