"""The figure of a dose–response: preference, perplexity and coherence by the coefficient of the intervention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from personaprobe.studies.arms.kinds import ArmKind
from personaprobe.studies.reports.figures.gaps import mean_gap
from personaprobe.studies.reports.figures.panels import GAP_TITLE, add_reference_line, marker, panels
from personaprobe.studies.reports.figures.styles import INK, STYLES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

ARM_KINDS: Mapping[str, ArmKind] = {"ablate insecure": "ablated", "steer base": "steered"}
"""The kind of arm whose style an intervention is drawn in."""

FAR = 5.0
"""Perplexity ratio above which that axis is logarithmic: the model writes word salad, and useful points stay apart."""


def dose_figure(data: Mapping[str, Any]) -> Figure | None:
    """Preference, perplexity and coherence by coefficient; None where no dose–response was measured.

    Args:
        data: a verdict as plain data (``verdict.json``).
    """
    points = data["doses"]
    if not points:
        return None
    figure = panels([260, 130, 130])
    for name in dict.fromkeys(point["intervention"] for point in points):
        _add_points(figure, name, [point for point in points if point["intervention"] == name])
    untreated = {arm["kind"] for arm in data["arms"]} & {"base", "secure", "insecure"}
    for kind in sorted(untreated):
        add_reference_line(figure, mean_gap(data, kind), kind, row=1, color=STYLES[kind].color)
    limit = data["thresholds"]["max_perplexity_ratio"]
    add_reference_line(figure, limit, f"limit × {limit:.2f}", row=2, color=INK)
    ratios = [ratio for point in points if (ratio := point["perplexity_ratio"]) is not None]
    scale = "log" if max(ratios, default=1.0) > FAR else "linear"
    figure.update_yaxes(title_text=GAP_TITLE, row=1, col=1)
    figure.update_yaxes(title_text="perplexity<br>ratio", type=scale, row=2, col=1)
    figure.update_yaxes(title_text="coherent<br>answers", tickformat=".0%", rangemode="tozero", row=3, col=1)
    figure.update_xaxes(range=_x_range([point["amount"] for point in points]))
    figure.update_xaxes(title_text="coefficient (calibrated units)", row=3, col=1)
    return figure


def _add_points(figure: Figure, name: str, points: Sequence[Mapping[str, Any]]) -> None:
    kind = ARM_KINDS[name]
    line = {"dash": "solid" if kind == "ablated" else "dash", "width": 2}
    style = {"mode": "lines+markers", "connectgaps": True, "marker": marker(kind, 9), "line": line}
    for row, field in enumerate(("gap", "perplexity_ratio", "coherence"), 1):
        figure.add_scatter(
            x=[point["amount"] for point in points],
            y=[point[field] for point in points],
            name=name,
            legendgroup=name,
            showlegend=row == 1,
            hovertemplate="coefficient %{x}: %{y:.3g}<extra></extra>",
            row=row,
            col=1,
            **style,
        )


def _x_range(coefficients: Sequence[float]) -> list[float]:
    """Leave the right end free of data: the reference lines have their names there."""
    span = max(coefficients) - min(coefficients) or 1.0
    return [min(coefficients) - 0.06 * span, max(coefficients) + 0.4 * span]
