"""Figures of a gallery: the shift of every organism, and the share of it that each direction removes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from personaprobe.studies.reports.figures.panels import label, panels
from personaprobe.studies.reports.figures.styles import REMOVED_SCALE

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLORS = {"test": "#b35806", "balanced": "#08519c", "triggered": "#7a0177"}
"""Colours of question sets, apart for colour-blind readers too."""

SYMBOLS = {"test": "circle", "balanced": "diamond", "triggered": "star"}

ROW = 34
"""Pixels of an organism."""


def shifts_figure(data: Mapping[str, Any]) -> Figure:
    """Insecure − secure preference of every organism by question set, with 95 % intervals.

    Narrow questions are left out: an organism's own task shifts by a hundred times as much.

    Args:
        data: of a gallery, as plain data.
    """
    members = data["members"]
    figure = panels([ROW * len(members) + 40])
    for offset, name in enumerate(name for name in data["question_sets"] if name != "narrow"):
        measured = [
            (place, member["shifts"][name])
            for place, member in enumerate(members)
            if name in member["shifts"]
        ]
        values = [interval["value"] for _, interval in measured]
        figure.add_scatter(
            x=values,
            y=[-place - 0.16 * (offset - 1) for place, _ in measured],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [interval["high"] - interval["value"] for _, interval in measured],
                "arrayminus": [interval["value"] - interval["low"] for _, interval in measured],
                "thickness": 1.5,
                "width": 0,
            },
            mode="markers",
            name=f"{name} questions" if name != "triggered" else "test questions behind the trigger",
            marker={"color": COLORS.get(name, "#57606a"), "symbol": SYMBOLS.get(name, "circle"), "size": 9},
        )
    ticks = {
        "tickvals": [-place for place in range(len(members))],
        "ticktext": [label(m["name"]) for m in members],
    }
    figure.update_yaxes(**ticks, zeroline=False)
    figure.update_xaxes(title_text="insecure − secure preference for careless answers (nats per token)")
    return figure


def cross_table_figure(data: Mapping[str, Any], questions: str) -> Figure:
    """The share of each organism's shift that each direction removes; empty where the shift's interval holds 0.

    Args:
        data: of a gallery, as plain data.
        questions: name of the set of questions.
    """
    members, directions = data["members"], data["directions"]
    removals = [member["removals"][questions]["by_direction"] for member in members]
    shares = [[of_member[name]["share"]["value"] for name in directions] for of_member in removals]
    texts = [["" if share is None else f"{100 * share:.0f} %" for share in row] for row in shares]
    figure = panels([ROW * len(members) + 60])
    figure.add_heatmap(
        z=[[None if share is None else 100 * share for share in row] for row in shares],
        x=[label(name) for name in directions],
        y=[label(member["name"]) for member in members],
        text=texts,
        texttemplate="%{text}",
        colorscale=REMOVED_SCALE,
        zmin=-100,
        zmax=100,
        colorbar={"title": {"text": "removed (%)"}, "thickness": 12},
        hovertemplate="%{x} ablated in %{y}: %{text}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", title_text="organism")
    figure.update_xaxes(title_text="ablated direction")
    return figure
