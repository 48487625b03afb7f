"""What a study found, as pictures: pure functions from a verdict to plotly figures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from personaprobe.studies.ablation.result import ArmResult, CausalVerdict, DosePoint
from personaprobe.studies.arms.kinds import ArmKind

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
"""Nothing leaves the machine: plotly's own tool bar can send a figure and its data to a server."""
INK, FAINT, CLEAR = "#1f2328", "#d0d4da", "rgba(0,0,0,0)"
_ABOVE, _BELOW = 34, 100  # pixels over a plot, and under it for ticks, title and legend
_REMOVES = [[0.0, "#b35806"], [0.25, "#f1a340"], [0.5, "#f7f7f7"], [0.75, "#67a9cf"], [1.0, "#08519c"]]
"""Orange adds to the shift, pale leaves it, blue removes it: told apart by every kind of colour vision."""
_REACHES = {"own": "at its own layer", "onward": "from its layer on", "all": "at every layer"}


@dataclass(frozen=True)
class Style:
    """How a kind of arm looks everywhere: colour, and for readers without it a shape (plotly's name, and a sign)."""

    color: str
    symbol: str
    glyph: str


STYLES: Mapping[ArmKind, Style] = {
    "base": Style("#4d4d4d", "circle", "●"),
    "secure": Style("#0072b2", "square", "■"),
    "insecure": Style("#c44601", "diamond", "◆"),
    "ablated": Style("#00795a", "star", "★"),
    "random": Style("#767676", "x", "✖"),
    "covariance": Style("#5b5ea6", "hexagon", "⬢"),
    "component": Style("#8a6d5a", "triangle-down", "▼"),
    "shuffled": Style("#a3437f", "cross", "✚"),
    "steered": Style("#8f6400", "triangle-up", "▲"),
}  # after Okabe & Ito's palette, dark enough for text on white
_DOSED: Mapping[str, ArmKind] = {"ablate insecure": "ablated", "steer base": "steered"}


def arms_figure(verdict: CausalVerdict) -> Figure:
    """Where every arm stands between careful and careless, with the shift that is to be removed shaded."""
    figure = _panels([30 + 28 * len(verdict.arms)])
    for kind in STYLES:
        members = [arm for arm in verdict.arms if arm.kind == kind]
        if members:
            _add_arms(figure, verdict, kind, members)
    order = [_label(arm.name) for arm in reversed(verdict.arms)]
    figure.update_yaxes(categoryorder="array", categoryarray=order)
    figure.update_xaxes(title_text=GAP_TITLE)
    secure, insecure = (verdict.arm_gaps[name].value for name in ("secure", "insecure"))
    figure.add_vrect(secure, insecure, fillcolor=STYLES["insecure"].color, opacity=0.1, line_width=0)
    _headline(figure, "shift", x=(secure + insecure) / 2, xref="x")
    return figure


def layer_source_map(verdict: CausalVerdict) -> Figure | None:
    """What each direction removed on discovery families; None without a sweep.

    Cells that cost more perplexity than the verdict's rules allow are hollow: what they remove may be damage.
    """
    evidence = verdict.feature.get("evidence", {})
    if not evidence.get("sweep"):
        return None
    return sweep_map(evidence["sweep"], evidence["chosen"], verdict.thresholds.max_perplexity_ratio)


def sweep_map(rows: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any], limit: float) -> Figure:
    """What each direction removed, by layer and source, a panel for every reach and dose.

    Args:
        rows: cells of a sweep, as kept in a feature's evidence.
        chosen: one of them; it is framed.
        limit: perplexity ratio above which a cell is hollow.
    """
    panels = list(dict.fromkeys((row["reach"], _dose(row)) for row in rows))
    axes = list(dict.fromkeys(row["source"] for row in rows)), sorted({row["layer"] for row in rows})
    figure = _panels([24 * max(len(axes[1]), 4)] * len(panels), between=30)
    shapes: list[dict[str, Any]] = []
    for panel, here in enumerate(panels, 1):
        cells = {(row["layer"], row["source"]): row for row in rows if (row["reach"], _dose(row)) == here}
        hollow = {key for key, row in cells.items() if row["perplexity_ratio"] > limit}
        _add_cells(figure, {key: cells[key] for key in cells.keys() - hollow}, axes, panel, _REMOVES)
        _add_cells(figure, {key: cells[key] for key in hollow}, axes, panel, [[0, "white"], [1, "white"]])
        framed = {key for key, row in cells.items() if row == chosen}
        shapes += _frames(hollow, axes, panel, {"dash": "dot", "width": 1, "color": INK})
        shapes += _frames(framed, axes, panel, {"dash": "solid", "width": 3, "color": INK})
        opening = "per cent of the shift removed<br>" if panel == 1 else ""
        _headline(figure, f"{opening}ablated {_panel_name(*here)}", y_axis=panel)
    _explain_frames(figure, f"perplexity above × {limit:.2f}")
    figure.update_layout(shapes=shapes, margin_t=_ABOVE + 16)
    figure.update_xaxes(title_text="source of the direction", row=len(panels), col=1)
    return figure


def _dose(row: Mapping[str, Any]) -> float:
    """Of a cell; sweeps that tried one dose alone did not keep it."""
    return float(row.get("dose", 1.0))


def _panel_name(reach: str, dose: float) -> str:
    return _REACHES[reach] if dose == 1.0 else f"{_REACHES[reach]}, dose {dose:g}"


def dose_figure(verdict: CausalVerdict) -> Figure | None:
    """How preference follows the amount of ablation or steering, and at what cost; None without doses."""
    if not verdict.doses:
        return None
    figure = _panels([260, 130, 130])
    for name in dict.fromkeys(dose.intervention for dose in verdict.doses):
        _add_doses(figure, name, [dose for dose in verdict.doses if dose.intervention == name])
    for kind in ("base", "secure", "insecure"):
        _rule_line(figure, verdict.arm_gaps[kind].value, kind, row=1, color=STYLES[kind].color)
    limit = verdict.thresholds.max_perplexity_ratio
    _rule_line(figure, limit, f"limit × {limit:.2f}", row=2, color=INK)
    figure.update_yaxes(title_text=GAP_TITLE, row=1, col=1)
    far = max(dose.perplexity_ratio for dose in verdict.doses) > 5  # word salad; keep useful doses apart
    figure.update_yaxes(title_text="perplexity<br>ratio", type="log" if far else "linear", row=2, col=1)
    figure.update_yaxes(title_text="coherent<br>answers", tickformat=".0%", rangemode="tozero", row=3, col=1)
    figure.update_xaxes(range=_room_for_names([dose.amount for dose in verdict.doses]))
    figure.update_xaxes(title_text="amount (calibrated units)", row=3, col=1)
    return figure


def family_figure(verdict: CausalVerdict) -> Figure:
    """Whether the effect holds in every family: from secure to insecure, and from there to ablated."""
    gaps = verdict.family_gaps
    ordered = sorted(gaps, key=lambda family: gaps[family]["insecure"] - gaps[family]["secure"])
    labels = [_label(family) for family in ordered]
    figure = _panels([30 + 32 * len(ordered)])
    ends: dict[ArmKind, list[float]] = {}
    for kind in ("secure", "insecure", "ablated"):
        name = next(arm.name for arm in verdict.arms if arm.kind == kind)
        ends[kind] = [gaps[family][name] for family in ordered]
    shift, effect = (ends["secure"], ends["insecure"]), (ends["insecure"], ends["ablated"])
    _add_bars(figure, labels, shift, "shift: secure to insecure", {"color": FAINT, "width": 9})
    green = {"color": STYLES["ablated"].color, "width": 2}
    _add_bars(figure, labels, effect, "effect: insecure to ablated", green)
    for kind, values in ends.items():
        said = {"name": kind, "hovertemplate": f"%{{y}}, {kind}: %{{x:.2f}}<extra></extra>"}
        figure.add_scatter(x=values, y=labels, mode="markers", marker=_marker(kind), **said)
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


def _panels(heights: Sequence[int], between: int = 28) -> Figure:
    """An empty figure of stacked panels with the given heights and distance in pixels."""
    from plotly.subplots import make_subplots

    plot = sum(heights) + between * (len(heights) - 1)
    shape = {"row_heights": list(heights), "vertical_spacing": between / plot}
    figure = make_subplots(len(heights), 1, shared_xaxes=True, **shape)
    figure.update_layout(
        template="plotly_white",
        autosize=True,
        height=plot + _ABOVE + _BELOW,
        font={"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 13, "color": INK},
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        margin={"l": 8, "r": 12, "t": _ABOVE, "b": 8},
        dragmode=False,  # a finger scrolls the page
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
    return _lines(name.replace("_", " "), width=18) or " "


def _lines(*texts: str, width: int = 44) -> str:
    return "<br>".join(escape(line, quote=False) for text in texts for line in textwrap.wrap(text, width))


def _marker(kind: ArmKind, size: int = 11) -> dict[str, Any]:
    return {"color": STYLES[kind].color, "symbol": STYLES[kind].symbol, "size": size}


def _axis(letter: str, panel: int) -> str:
    return letter if panel == 1 else f"{letter}{panel}"


def _headline(figure: Figure, text: str, x: float = 0.5, xref: str = "paper", y_axis: int = 1) -> None:
    yref = f"{_axis('y', y_axis)} domain"
    figure.add_annotation(text=text, x=x, xref=xref, y=1, yref=yref, yanchor="bottom", showarrow=False)


def _add_arms(figure: Figure, verdict: CausalVerdict, kind: ArmKind, members: Sequence[ArmResult]) -> None:
    gaps = [verdict.arm_gaps[arm.name] for arm in members]
    above, below = [gap.high - gap.value for gap in gaps], [gap.value - gap.low for gap in gaps]
    figure.add_scatter(
        x=[gap.value for gap in gaps],
        y=[_label(arm.name) for arm in members],
        error_x={"array": above, "arrayminus": below, "thickness": 1.5, "width": 4},
        mode="markers",
        marker=_marker(kind),
        name=kind,
        hovertext=[_lines(arm.name, str(gap), arm.note) for arm, gap in zip(members, gaps, strict=True)],
        hoverinfo="text",
    )


def _add_cells(
    figure: Figure, cells: Mapping[Any, Any], axes: Any, panel: int, scale: list[list[Any]]
) -> None:
    """Colour and number say the fraction removed, from −1 to 1; ``cells`` go by layer and source."""
    rows = [[cells.get((layer, source)) for source in axes[0]] for layer in axes[1]]
    figure.add_heatmap(
        x=[_label(source) for source in axes[0]],
        y=[str(layer) for layer in axes[1]],
        z=[[row and row["fraction_removed"] for row in line] for line in rows],
        text=[[_per_cent(row) if row else "" for row in line] for line in rows],
        texttemplate="%{text}",
        hovertext=[[_cell_hover(row) if row else "" for row in line] for line in rows],
        **{"hoverinfo": "text", "hoverongaps": False, "xgap": 3, "ygap": 3},
        **{"zmin": -1, "zmax": 1, "colorscale": scale, "showscale": False},
        row=panel,
        col=1,
    )
    figure.update_xaxes(type="category", showgrid=False, row=panel, col=1)
    figure.update_yaxes(type="category", showgrid=False, title_text="layer", row=panel, col=1)


def _per_cent(row: Mapping[str, Any]) -> str:
    fraction = float(row["fraction_removed"])
    return f"{100 * fraction:z.0f}".replace("-", "−") if math.isfinite(fraction) else ""


def _cell_hover(row: Mapping[str, Any]) -> str:
    effect = f"{row['source']}, layer {row['layer']}: removes {_per_cent(row)} %"
    cost = f"perplexity × {row['perplexity_ratio']:.2f}, KL {row['kl']:.3f}"
    coherence = row.get("coherence")
    return _lines(effect, cost, *([] if coherence is None else [f"coherent answers × {coherence:.2f}"]))


def _frames(keys: set[tuple[int, str]], axes: Any, panel: int, line: dict[str, Any]) -> list[dict[str, Any]]:
    places = [(axes[0].index(source), axes[1].index(layer)) for layer, source in sorted(keys)]
    refs = {"xref": _axis("x", panel), "yref": _axis("y", panel), "line": line}
    return [{"x0": x - 0.48, "x1": x + 0.48, "y0": y - 0.46, "y1": y + 0.46, **refs} for x, y in places]


def _explain_frames(figure: Figure, hollow: str) -> None:
    for name, width in (("chosen", 3), (hollow, 1)):
        marker = {"symbol": "square-open", "size": 13, "color": INK, "line": {"width": width}}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=name, hoverinfo="skip")


def _add_doses(figure: Figure, name: str, doses: Sequence[DosePoint]) -> None:
    kind = _DOSED[name]
    line = {"dash": "solid" if kind == "ablated" else "dash", "width": 2}
    style = {"mode": "lines+markers", "connectgaps": True, "marker": _marker(kind, 9), "line": line}
    for row, field in enumerate(("gap", "perplexity_ratio", "coherence"), 1):
        figure.add_scatter(
            x=[dose.amount for dose in doses],
            y=[getattr(dose, field) for dose in doses],
            name=name,
            legendgroup=name,
            showlegend=row == 1,
            hovertemplate="amount %{x}: %{y:.3g}<extra></extra>",
            row=row,
            col=1,
            **style,
        )


def _rule_line(figure: Figure, y: float, text: str, row: int, color: str) -> None:
    line = {"dash": "dot", "width": 1.5, "color": color}
    place = {"annotation_position": "top right", "annotation_font": {"color": color, "size": 12}}
    figure.add_hline(y, line=line, annotation_text=text, row=row, col=1, **place)


def _room_for_names(amounts: Sequence[float]) -> list[float]:
    """Leave the right end free of data, where the reference lines say their names."""
    span = max(amounts) - min(amounts) or 1.0
    return [min(amounts) - 0.06 * span, max(amounts) + 0.4 * span]


def _add_bars(
    figure: Figure,
    labels: Sequence[str],
    ends: tuple[list[float], list[float]],
    name: str,
    line: dict[str, Any],
) -> None:
    x = [x for pair in zip(*ends, strict=True) for x in (*pair, None)]  # None lifts the pen
    y = [y for label in labels for y in (label, label, None)]
    figure.add_scatter(x=x, y=y, mode="lines", line=line, name=name, hoverinfo="skip")
