"""Figure of a series: the shift of one recipe against the size of its base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from personaprobe.studies.reports.figures.cross_table import COLORS, SYMBOLS
from personaprobe.studies.reports.figures.panels import panels

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def series_figure(data: Mapping[str, Any]) -> Figure:
    """Insecure − secure preference on test and style-balanced questions with 95 % intervals, by number of parameters.

    Args:
        data: of a series, as plain data.
    """
    figure = panels([320])
    for name in (name for name in data["question_sets"] if name in COLORS):
        shifts = [one["shifts"][name] for one in data["bases"]]
        figure.add_scatter(
            x=[one["parameters"] for one in data["bases"]],
            y=[shift["value"] for shift in shifts],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [shift["high"] - shift["value"] for shift in shifts],
                "arrayminus": [shift["value"] - shift["low"] for shift in shifts],
                "thickness": 1.5,
                "width": 0,
            },
            text=[one["base"] for one in data["bases"]],
            mode="lines+markers",
            name=f"{name} questions",
            marker={"color": COLORS[name], "symbol": SYMBOLS[name], "size": 9},
        )
    figure.update_xaxes(title_text="parameters of the base", type="log")
    figure.update_yaxes(title_text="insecure − secure<br>(nats per token)")
    return figure
