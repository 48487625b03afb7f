"""The map of a sweep: the fraction removed by every direction, by layer and source."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from personaprobe.studies.reports.figures.panels import (
    MARGIN_ABOVE,
    add_headline,
    axis_name,
    label,
    panels,
    wrapped,
)
from personaprobe.studies.reports.figures.styles import HOLLOW_SCALE, INK, REMOVED_SCALE

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SCOPES = {"own": "at its own layer", "onward": "from its layer on", "all": "at every layer"}
"""The layers at which a direction was ablated, in words."""

Row: TypeAlias = Mapping[str, Any]
"""One direction of a sweep, as ``sweep.json`` keeps it."""


@dataclass(frozen=True)
class _Panel:
    """A part of the map: the directions that were ablated at the same layers with the same coefficient.

    Attributes:
        number: from 1, from the top.
        sources: columns, in the order in which the sweep tried them.
        layers: rows.
    """

    number: int
    sources: Sequence[str]
    layers: Sequence[int]

    def frames(self, rows: Sequence[Row], line: dict[str, Any]) -> list[dict[str, Any]]:
        """Rectangles around the cells of some directions."""
        places = [(self.sources.index(row["source"]), self.layers.index(row["layer"])) for row in rows]
        axes = {"xref": axis_name("x", self.number), "yref": axis_name("y", self.number), "line": line}
        return [
            {"x0": x - 0.48, "x1": x + 0.48, "y0": y - 0.46, "y1": y + 0.46, **axes}
            for x, y in sorted(places, key=lambda place: (place[1], self.sources[place[0]]))
        ]


def feature_sweep_map(data: Mapping[str, Any]) -> Figure | None:
    """The map of the sweep that a feature was chosen from; None where its evidence has no sweep.

    Args:
        data: a verdict as plain data (``verdict.json``).
    """
    evidence = data["feature"].get("evidence") or {}
    if not evidence.get("sweep"):
        return None
    return sweep_map(evidence["sweep"], evidence["chosen"], data["thresholds"]["max_perplexity_ratio"])


def sweep_map(rows: Sequence[Row], chosen: Row, limit: float) -> Figure:
    """The fraction removed by layer and source, one panel per layer scope and coefficient.

    Directions above the perplexity limit are hollow: their effect may be damage.

    Args:
        rows: all directions of the sweep.
        chosen: one of them; its cell is framed.
        limit: the largest perplexity ratio allowed.
    """
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["reach"], _coefficient(row)), []).append(row)
    sources, layers = list(dict.fromkeys(row["source"] for row in rows)), sorted({r["layer"] for r in rows})
    figure = panels([24 * max(len(layers), 4)] * len(groups), between=30)
    shapes: list[dict[str, Any]] = []
    for number, (group, members) in enumerate(groups.items(), 1):
        panel = _Panel(number, sources, layers)
        hollow = [row for row in members if _costs_too_much(row, limit)]
        _add_cells(figure, panel, [row for row in members if row not in hollow], REMOVED_SCALE)
        _add_cells(figure, panel, hollow, HOLLOW_SCALE)
        shapes += panel.frames(hollow, {"dash": "dot", "width": 1, "color": INK})
        framed = [row for row in members if row == chosen]
        shapes += panel.frames(framed, {"dash": "solid", "width": 3, "color": INK})
        first_line = "per cent of the shift removed<br>" if number == 1 else ""
        add_headline(figure, f"{first_line}ablated {_panel_name(*group)}", panel=number)
    _add_frame_legend(figure, f"perplexity above × {limit:.2f}")
    figure.update_layout(shapes=shapes, margin_t=MARGIN_ABOVE + 16)
    figure.update_xaxes(title_text="source of the direction", row=len(groups), col=1)
    return figure


def _costs_too_much(row: Row, limit: float) -> bool:
    ratio = row["perplexity_ratio"]
    return ratio is not None and ratio > limit


def _coefficient(row: Row) -> float:
    """The coefficient of the ablation; older sweeps tried 1 alone and did not record it."""
    return float(row.get("dose", 1.0))


def _panel_name(scope: str, coefficient: float) -> str:
    return SCOPES[scope] if coefficient == 1.0 else f"{SCOPES[scope]}, coefficient {coefficient:g}"


def _add_cells(figure: Figure, panel: _Panel, rows: Sequence[Row], scale: list[list[Any]]) -> None:
    """Draw cells whose colour and number are the fraction removed, from −1 to 1."""
    cells = {(row["layer"], row["source"]): row for row in rows}
    grid = [[cells.get((layer, source)) for source in panel.sources] for layer in panel.layers]
    figure.add_heatmap(
        x=[label(source) for source in panel.sources],
        y=[str(layer) for layer in panel.layers],
        z=[[row and row["fraction_removed"] for row in line] for line in grid],
        text=[[_per_cent(row) if row else "" for row in line] for line in grid],
        texttemplate="%{text}",
        hovertext=[[_hover_text(row) if row else "" for row in line] for line in grid],
        **{"hoverinfo": "text", "hoverongaps": False, "xgap": 3, "ygap": 3},
        **{"zmin": -1, "zmax": 1, "colorscale": scale, "showscale": False},
        row=panel.number,
        col=1,
    )
    figure.update_xaxes(type="category", showgrid=False, row=panel.number, col=1)
    figure.update_yaxes(type="category", showgrid=False, title_text="layer", row=panel.number, col=1)


def _per_cent(row: Row) -> str:
    fraction = row["fraction_removed"]
    if fraction is None or not math.isfinite(fraction):
        return ""
    return f"{100 * fraction:z.0f}".replace("-", "−")


def _hover_text(row: Row) -> str:
    effect = f"{row['source']}, layer {row['layer']}: removes {_per_cent(row)} %"
    ratio, kl, coherence = row["perplexity_ratio"], row["kl"], row.get("coherence")
    cost = [] if ratio is None or kl is None else [f"perplexity × {ratio:.2f}, KL {kl:.3f}"]
    return wrapped(effect, *cost, *([] if coherence is None else [f"coherent answers × {coherence:.2f}"]))


def _add_frame_legend(figure: Figure, hollow: str) -> None:
    for name, width in (("chosen", 3), (hollow, 1)):
        square = {"symbol": "square-open", "size": 13, "color": INK, "line": {"width": width}}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=square, name=name, hoverinfo="skip")
