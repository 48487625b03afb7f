"""What a study found, as pictures: pure functions from a verdict to plotly figures, and plotly itself as text."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from personaprobe.site import Site
from personaprobe.studies.results import ArmKind, ArmResult, CausalVerdict, DosePoint

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

GAP_TITLE = "preference for the careless answer<br>(nats per token)"
CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "modeBarButtons": [["toImage", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
}
"""Nothing leaves the machine: plotly's own tool bar has a button that sends the figure and its data to a server."""
INK, FAINT, CLEAR = "#1f2328", "#d0d4da", "rgba(0,0,0,0)"
_ABOVE, _BELOW = 34, 70
"""Pixels for what stands over a plot, and for its axis title and legend."""
_REMOVES = [[0.0, "#b35806"], [0.25, "#f1a340"], [0.5, "#f7f7f7"], [0.75, "#67a9cf"], [1.0, "#08519c"]]
"""Orange adds to the shift, pale leaves it, blue removes it: told apart by every kind of colour vision."""


@dataclass(frozen=True)
class Style:
    """How a kind of arm looks everywhere: in colour, and in shape for readers without colour.

    Attributes:
        color: dark enough for text on white (Okabe & Ito's palette, some darkened).
        symbol: plotly's name of the marker.
        glyph: the same shape as a character.
    """

    color: str
    symbol: str
    glyph: str


STYLES: Mapping[ArmKind, Style] = {
    "base": Style("#4d4d4d", "circle", "●"),
    "secure": Style("#0072b2", "square", "■"),
    "insecure": Style("#c44601", "diamond", "◆"),
    "ablated": Style("#00795a", "star", "★"),
    "random": Style("#767676", "x", "✖"),
    "shuffled": Style("#a3437f", "cross", "✚"),
    "steered": Style("#8f6400", "triangle-up", "▲"),
}
_DOSE_KINDS: Mapping[str, ArmKind] = {"ablate insecure": "ablated", "steer base": "steered"}


def arms_figure(verdict: CausalVerdict) -> Figure:
    """Where every arm stands between careful and careless, with the shift that is to be removed shaded."""
    figure = _figure(_ABOVE + _BELOW + 30 + 28 * len(verdict.arms))
    for kind in STYLES:
        members = [arm for arm in verdict.arms if arm.kind == kind]
        if members:
            _add_arms(figure, verdict, kind, members)
    order = [_label(arm.name) for arm in reversed(verdict.arms)]
    figure.update_yaxes(categoryorder="array", categoryarray=order)
    figure.update_xaxes(title_text=GAP_TITLE)
    _shade_shift(figure, *(verdict.arm_gaps[name].value for name in ("secure", "insecure")))
    return figure


def layer_source_map(verdict: CausalVerdict) -> Figure | None:
    """Which layer and which source of direction removed how much on the discovery families; None without a sweep.

    Cells that cost more perplexity than the rules allow are hollow: what they remove may be damage.
    """
    sweep = verdict.feature.get("evidence", {}).get("sweep")
    if not sweep:
        return None
    limit = verdict.thresholds.max_perplexity_ratio
    sources = list(dict.fromkeys(row["source"] for row in sweep))
    layers = sorted({row["layer"] for row in sweep})
    figure = _figure(_ABOVE + _BELOW + 40 + max(24 * len(layers), 120))
    for hollow in (False, True):
        rows = [row for row in sweep if _exceeds(row["perplexity_ratio"], limit) == hollow]
        _add_cells(figure, _grid(rows, sources, layers), sources, layers, hollow)
    _outline(figure, verdict, sweep, (sources, layers))
    _headline(figure, "per cent of the shift removed")
    figure.update_xaxes(title_text="source of the direction", type="category", showgrid=False)
    figure.update_yaxes(title_text="layer", type="category", showgrid=False)
    return figure


def dose_figure(verdict: CausalVerdict) -> Figure | None:
    """How preference follows the amount of ablation or steering, and what each amount costs; None without doses."""
    if not verdict.doses:
        return None
    figure = _panels((0.5, 0.25, 0.25), height=_ABOVE + _BELOW + 580)
    for name in dict.fromkeys(dose.intervention for dose in verdict.doses):
        _add_doses(figure, name, [dose for dose in verdict.doses if dose.intervention == name])
    for kind in ("base", "secure", "insecure"):
        _rule_line(figure, verdict.arm_gaps[kind].value, kind, row=1, color=STYLES[kind].color)
    limit = verdict.thresholds.max_perplexity_ratio
    _rule_line(figure, limit, f"limit × {limit:.2f}", row=2, color=INK)
    figure.update_yaxes(title_text=GAP_TITLE, row=1, col=1)
    figure.update_yaxes(title_text="perplexity<br>ratio", row=2, col=1, **_ratio_axis(verdict.doses))
    figure.update_yaxes(
        title_text="coherent<br>answers", tickformat=".0%", range=[-0.05, 1.05], row=3, col=1
    )
    figure.update_xaxes(range=_room_for_names([dose.amount for dose in verdict.doses]))
    figure.update_xaxes(title_text="amount (calibrated units)", row=3, col=1)
    return figure


def family_figure(verdict: CausalVerdict) -> Figure:
    """Whether the effect holds in every family: from secure to insecure, and from there to ablated."""
    ablated = next(arm.name for arm in verdict.arms if arm.kind == "ablated")
    gaps = verdict.family_gaps
    ordered = sorted(gaps, key=lambda family: gaps[family]["insecure"] - gaps[family]["secure"])
    labels = [_label(family) for family in ordered]
    figure = _figure(_ABOVE + _BELOW + 30 + 32 * len(ordered))
    secure, insecure, after = (
        [gaps[family][name] for family in ordered] for name in ("secure", "insecure", ablated)
    )
    _add_bars(figure, labels, (secure, insecure), "shift: secure to insecure", FAINT, 9)
    _add_bars(figure, labels, (insecure, after), "effect: insecure to ablated", STYLES["ablated"].color, 2)
    for kind, values in (("secure", secure), ("insecure", insecure), ("ablated", after)):
        _add_points(figure, values, labels, kind)  # type: ignore[arg-type]
    figure.update_yaxes(categoryorder="array", categoryarray=labels)
    figure.update_xaxes(title_text=GAP_TITLE)
    return figure


def plotly_script() -> str:
    """The whole of plotly.js, for a page that works offline."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def figure_json(figure: Figure) -> str:
    """A figure as JSON that can stand inside a script element: nothing in it can close the element."""
    return str(figure.to_json()).replace("<", "\\u003c").replace(">", "\\u003e")


def _figure(height: int) -> Figure:
    from plotly.graph_objects import Figure

    return _dressed(Figure(), height)


def _panels(shares: Sequence[float], height: int) -> Figure:
    from plotly.subplots import make_subplots

    rows = len(shares)
    return _dressed(
        make_subplots(rows, 1, shared_xaxes=True, row_heights=list(shares), vertical_spacing=0.05), height
    )


def _dressed(figure: Figure, height: int) -> Figure:
    """Light, see-through, legend under the plot, and a finger that scrolls the page instead of zooming."""
    figure.update_layout(
        template="plotly_white",
        autosize=True,
        height=height,
        font={"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 13, "color": INK},
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        margin={"l": 8, "r": 12, "t": _ABOVE, "b": _BELOW},
        dragmode=False,
        modebar={"bgcolor": CLEAR, "color": "#8c959f", "activecolor": INK},
        hoverlabel={"bgcolor": "white", "align": "left"},
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
    )
    axis = {"automargin": True, "zerolinecolor": FAINT, "title": {"standoff": 10, "font": {"size": 13}}}
    figure.update_xaxes(**axis, tickfont_size=12)
    figure.update_yaxes(**axis, tickfont_size=12)
    return figure


def _label(name: str) -> str:
    """A name from outside as a tick label: its own signs are not read as markup, and long ones wrap."""
    lines = textwrap.wrap(name.replace("_", " "), 18) or [name]
    return "<br>".join(escape(line, quote=False) for line in lines)


def _marker(kind: ArmKind, size: int = 11) -> dict[str, Any]:
    return {"color": STYLES[kind].color, "symbol": STYLES[kind].symbol, "size": size}


def _add_arms(figure: Figure, verdict: CausalVerdict, kind: ArmKind, members: Sequence[ArmResult]) -> None:
    gaps = [verdict.arm_gaps[arm.name] for arm in members]
    figure.add_scatter(
        x=[gap.value for gap in gaps],
        y=[_label(arm.name) for arm in members],
        error_x={
            "array": [gap.high - gap.value for gap in gaps],
            "arrayminus": [gap.value - gap.low for gap in gaps],
            "thickness": 1.5,
            "width": 4,
        },
        mode="markers",
        marker=_marker(kind),
        name=kind,
        hovertext=[_hover(arm.name, str(gap), arm.note) for arm, gap in zip(members, gaps, strict=True)],
        hoverinfo="text",
    )


def _hover(*lines: str) -> str:
    return "<br>".join(escape(piece, quote=False) for line in lines for piece in textwrap.wrap(line, 44))


def _shade_shift(figure: Figure, secure: float, insecure: float) -> None:
    figure.add_vrect(secure, insecure, fillcolor=STYLES["insecure"].color, opacity=0.1, line_width=0)
    _headline(figure, "shift", x=(secure + insecure) / 2, xref="x")


def _headline(figure: Figure, text: str, x: float = 0.5, xref: str = "paper") -> None:
    figure.add_annotation(text=text, x=x, xref=xref, y=1, yref="paper", yanchor="bottom", showarrow=False)


def _exceeds(ratio: float | None, limit: float) -> bool:
    return ratio is not None and ratio > limit


def _grid(
    rows: Iterable[Mapping[str, Any]], sources: Sequence[str], layers: Sequence[int]
) -> list[list[Mapping[str, Any] | None]]:
    by_cell = {(row["layer"], row["source"]): row for row in rows}
    return [[by_cell.get((layer, source)) for source in sources] for layer in layers]


def _add_cells(
    figure: Figure,
    grid: Sequence[Sequence[Mapping[str, Any] | None]],
    sources: Sequence[str],
    layers: Sequence[int],
    hollow: bool,
) -> None:
    """Colour and number say the fraction removed; hollow cells are white and keep their number."""
    figure.add_heatmap(
        x=[_label(source) for source in sources],
        y=[str(layer) for layer in layers],
        z=[[None if row is None else row["fraction_removed"] for row in line] for line in grid],
        text=[[_percent(row) for row in line] for line in grid],
        texttemplate="%{text}",
        hovertext=[[_cell_hover(row) for row in line] for line in grid],
        hoverinfo="text",
        hoverongaps=False,
        zmin=-1,
        zmax=1,
        colorscale=[[0, "white"], [1, "white"]] if hollow else _REMOVES,
        showscale=False,
        xgap=3,
        ygap=3,
    )


def _percent(row: Mapping[str, Any] | None) -> str:
    fraction = None if row is None else row["fraction_removed"]
    known = fraction is not None and math.isfinite(fraction)
    return f"{100 * fraction:z.0f}".replace("-", "−") if known and fraction is not None else ""


def _cell_hover(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    ratio = row["perplexity_ratio"]
    cost = "perplexity not measured" if ratio is None else f"perplexity × {ratio:.2f}"
    return _hover(f"{row['source']}, layer {row['layer']}", f"removes {_percent(row)} %", cost)


def _outline(figure: Figure, verdict: CausalVerdict, rows: Sequence[Any], axes: tuple[Any, Any]) -> None:
    """Dash the hollow cells, frame the chosen one, and say so in the legend."""
    limit = verdict.thresholds.max_perplexity_ratio
    chosen = (verdict.feature["source"], Site.parse(str(verdict.feature["site"])).layer)
    marks = [(row, "dot", 1) for row in rows if _exceeds(row["perplexity_ratio"], limit)]
    marks += [(row, "solid", 3) for row in rows if (row["source"], row["layer"]) == chosen]
    for row, dash, width in marks:
        x, y = axes[0].index(row["source"]), axes[1].index(row["layer"])
        corners = {"x0": x - 0.48, "x1": x + 0.48, "y0": y - 0.46, "y1": y + 0.46}
        figure.add_shape(**corners, line={"dash": dash, "width": width, "color": INK})
    for name, symbol, width in (("chosen", "square-open", 3), (f"perplexity above × {limit:.2f}", "square-open", 1)):
        marker = {"symbol": symbol, "size": 13, "color": INK, "line": {"width": width}}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=name, hoverinfo="skip")


def _add_doses(figure: Figure, name: str, doses: Sequence[DosePoint]) -> None:
    kind = _DOSE_KINDS[name]
    for row, field in enumerate(("gap", "perplexity_ratio", "coherence"), 1):
        figure.add_scatter(
            x=[dose.amount for dose in doses],
            y=[getattr(dose, field) for dose in doses],
            mode="lines+markers",
            connectgaps=True,
            marker=_marker(kind, 9),
            line={"dash": "solid" if kind == "ablated" else "dash", "width": 2},
            name=escape(name),
            legendgroup=name,
            showlegend=row == 1,
            hovertemplate="amount %{x}: %{y:.3g}<extra></extra>",
            row=row,
            col=1,
        )


def _rule_line(figure: Figure, y: float, text: str, row: int, color: str) -> None:
    line = {"dash": "dot", "width": 1.5, "color": color}
    place = {"annotation_position": "top right", "annotation_font": {"color": color, "size": 12}}
    figure.add_hline(y, line=line, annotation_text=text, row=row, col=1, **place)


def _room_for_names(amounts: Sequence[float]) -> list[float]:
    """Leave the right end free of data, where the reference lines say their names."""
    low, high = min(amounts), max(amounts)
    span = high - low or 1.0
    return [low - 0.06 * span, high + 0.4 * span]


def _ratio_axis(doses: Sequence[DosePoint]) -> dict[str, Any]:
    """Word salad has perplexities far off: a logarithm keeps the useful doses apart."""
    highest = max(dose.perplexity_ratio for dose in doses)
    return {"type": "log", "dtick": 1} if highest > 5 else {"type": "linear"}


def _add_bars(
    figure: Figure, labels: Sequence[str], ends: tuple[Sequence[float], Sequence[float]], name: str, color: str, width: int
) -> None:
    figure.add_scatter(
        x=[x for pair in zip(*ends, strict=True) for x in (*pair, None)],
        y=[y for label in labels for y in (label, label, None)],
        mode="lines",
        line={"color": color, "width": width},
        name=name,
        hoverinfo="skip",
    )


def _add_points(figure: Figure, values: Sequence[float], labels: Sequence[str], kind: ArmKind) -> None:
    template = f"%{{y}}, {kind}: %{{x:.2f}}<extra></extra>"
    figure.add_scatter(x=values, y=labels, mode="markers", marker=_marker(kind), name=kind, hovertemplate=template)
