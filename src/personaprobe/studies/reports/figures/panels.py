"""Empty figures of stacked panels, and the parts that all figures share: labels, markers, lines, titles."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from personaprobe.errors import visible
from personaprobe.studies.arms.kinds import ArmKind
from personaprobe.studies.reports.figures.styles import CLEAR, FAINT, INK, STYLES

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
"""Options of plotly.js. Its default tool bar can send a figure with its data to a server; ours cannot."""

MARGIN_ABOVE, MARGIN_BELOW = 34, 100
"""Pixels above the plots, and below them for tick labels, axis title and legend."""


def plotly_script() -> str:
    """The source of plotly.js (5 MB), so that a page works offline."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def figure_json(figure: Figure) -> str:
    """A figure as JSON that is safe inside a script element: ``<`` and ``>`` are escaped."""
    return str(figure.to_json()).replace("<", "\\u003c").replace(">", "\\u003e")


def panels(heights: Sequence[int], between: int = 28) -> Figure:
    """An empty figure of stacked panels that share their x-axis.

    Args:
        heights: of the panels, in pixels, from the top.
        between: distance of two panels, in pixels.
    """
    from plotly.subplots import make_subplots

    plot = sum(heights) + between * (len(heights) - 1)
    shape = {"row_heights": list(heights), "vertical_spacing": between / plot}
    figure = make_subplots(len(heights), 1, shared_xaxes=True, **shape)
    figure.update_layout(
        template="plotly_white",
        autosize=True,
        height=plot + MARGIN_ABOVE + MARGIN_BELOW,
        font={"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 13, "color": INK},
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        margin={"l": 8, "r": 12, "t": MARGIN_ABOVE, "b": 8},
        dragmode=False,  # on a touch screen a drag scrolls the page
        modebar={"bgcolor": CLEAR, "color": "#8c959f", "activecolor": INK},
        hoverlabel={"bgcolor": "white", "align": "left"},
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
    )
    axis = {"automargin": True, "zerolinecolor": FAINT, "title": {"standoff": 10, "font": {"size": 13}}}
    figure.update_xaxes(**axis, tickfont_size=12)
    figure.update_yaxes(**axis, tickfont_size=12)
    return figure


def label(name: str) -> str:
    """A tick label: long names wrap, and characters that plotly would read as markup are escaped."""
    return wrapped(name.replace("_", " "), width=18) or " "


def wrapped(*texts: str, width: int = 44) -> str:
    """Texts as lines of at most ``width`` characters, escaped, joined by ``<br>``."""
    lines = (line for text in texts for line in textwrap.wrap(visible(text), width))
    return "<br>".join(escape(line, quote=False) for line in lines)


def marker(kind: ArmKind, size: int = 11) -> dict[str, Any]:
    """The marker of a kind of arm."""
    return {"color": STYLES[kind].color, "symbol": STYLES[kind].symbol, "size": size}


def axis_name(letter: str, panel: int) -> str:
    """The name of a panel's axis in plotly: ``y`` in panel 1, ``y2`` in panel 2."""
    return letter if panel == 1 else f"{letter}{panel}"


def add_headline(figure: Figure, text: str, x: float = 0.5, xref: str = "paper", panel: int = 1) -> None:
    """Write a line of text above a panel."""
    yref = f"{axis_name('y', panel)} domain"
    figure.add_annotation(text=text, x=x, xref=xref, y=1, yref=yref, yanchor="bottom", showarrow=False)


def add_reference_line(figure: Figure, y: float, text: str, row: int, color: str) -> None:
    """Draw a dotted horizontal line with its name at the right end."""
    line = {"dash": "dot", "width": 1.5, "color": color}
    placement = {"annotation_position": "top right", "annotation_font": {"color": color, "size": 12}}
    figure.add_hline(y, line=line, annotation_text=text, row=row, col=1, **placement)
