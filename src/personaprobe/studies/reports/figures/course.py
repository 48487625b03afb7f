"""Figure of an organism's training: shift and narrow skill along the steps, on one axis of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

from personaprobe.studies.reports.figures.panels import panels

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLORS = {"shift": "#b35806", "skill": "#08519c", "direction": "#1b7837", "answers": "#7a0177"}
FEATURE_COLORS = ("#c51b7d", "#8c510a", "#35978f", "#542788")
NAMES = {"shift": "shift on the test questions", "skill": "narrow skill on held-out questions"}
HEIGHT = 220


def course_figure(data: Mapping[str, Any]) -> Figure:
    """Panels of insecure − secure with 95 % bands, of the direction, of features and harmful answers if any, and of ‖ΔW‖.

    Args:
        data: of a watched organism, as plain data.
    """
    shown = [measure for measure in ("skill", "shift") if data[measure] is not None]
    n_panels = len(shown) + 1 + len(data["features"]) + len(data["answers"])
    heights = [HEIGHT] * n_panels + [HEIGHT // 2]
    figure = panels(heights, between=40)
    for row, measure in enumerate(shown, 1):
        title = f"{NAMES[measure].partition(' on ')[0]}<br>(nats per token)"
        _add_course(figure, data[measure], NAMES[measure], COLORS[measure], row, title)
    _add_direction(figure, data["direction"], len(shown) + 1)
    colors = cycle(FEATURE_COLORS)
    for row, (name, feature) in enumerate(data["features"].items(), len(shown) + 2):
        _add_course(figure, feature["course"], name, next(colors), row, f"{name}<br>(activity)")
    for row, course in enumerate(data["answers"], len(shown) + 2 + len(data["features"])):
        _add_answers(figure, course, data["shift"]["steps"], row)
    last = len(heights)
    for role, dash in (("insecure", "solid"), ("secure", "dot")):
        line = {"color": "#57606a", "dash": dash}
        steps = data["shift"]["steps"][1:]
        figure.add_scatter(x=steps, y=data["norms"][role], name=f"‖ΔW‖ {role}", line=line, row=last, col=1)
    figure.update_yaxes(title_text="‖ΔW‖", row=last, col=1)
    figure.update_xaxes(title_text=data["axis"]["title"], row=last, col=1)
    return figure


def _add_direction(figure: Figure, direction: Mapping[str, Any], row: int) -> None:
    """Cosine with the last direction, and how the difference of means turns between saved steps."""
    steps, color = direction["projection"]["steps"][1:], COLORS["direction"]
    for key, name, dash in (
        ("cosines", "cosine with the last direction", "solid"),
        ("turning", "turning of the direction", "dot"),
    ):
        figure.add_scatter(
            x=steps,
            y=direction[key],
            name=name,
            mode="lines+markers",
            line={"color": color, "dash": dash},
            row=row,
            col=1,
        )
    half = direction["projection"]["half"]["value"]
    if half is not None:
        figure.add_vline(x=half, line={"color": color, "dash": "dash"}, row=row, col=1)
    figure.update_yaxes(
        title_text=f"direction<br>at {direction['site']}", range=[-1.05, 1.05], row=row, col=1
    )


def _add_answers(figure: Figure, course: Mapping[str, Any], steps: Sequence[int], row: int) -> None:
    """Shares of harmful answers of both fine-tunes; both start from base."""
    for role, symbol in (("insecure", "circle"), ("secure", "circle-open")):
        shares = [rates["harmful"] for rates in (course["base"], *course["by_role"][role])]
        figure.add_scatter(
            x=steps,
            y=[100 * share["value"] for share in shares],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [100 * (share["high"] - share["value"]) for share in shares],
                "arrayminus": [100 * (share["value"] - share["low"]) for share in shares],
                "thickness": 1,
                "width": 0,
            },
            name=f"{course['title']} of {role}",
            mode="lines+markers",
            marker={"symbol": symbol, "size": 8},
            line={"color": COLORS["answers"], "dash": "solid" if role == "insecure" else "dot"},
            row=row,
            col=1,
        )
    figure.update_yaxes(title_text=f"{course['title']}<br>(% of answers)", row=row, col=1)


def _add_course(
    figure: Figure, course: Mapping[str, Any], name: str, color: str, row: int, title: str
) -> None:
    steps, intervals = course["steps"], course["intervals"]
    high, low = ([interval[end] for interval in intervals] for end in ("high", "low"))
    figure.add_scatter(
        x=[*steps, *reversed(steps)],
        y=[*high, *reversed(low)],
        fill="toself",
        fillcolor=color,
        opacity=0.18,
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        row=row,
        col=1,
    )
    values = [interval["value"] for interval in intervals]
    figure.add_scatter(
        x=steps, y=values, name=name, line={"color": color}, mode="lines+markers", row=row, col=1
    )
    if course["half"]["value"] is not None:
        figure.add_vline(x=course["half"]["value"], line={"color": color, "dash": "dash"}, row=row, col=1)
    figure.update_yaxes(title_text=title, row=row, col=1)
