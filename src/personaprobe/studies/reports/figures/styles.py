"""Colours and shapes: one style for every kind of arm, the same in all figures and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from personaprobe.studies.arms.kinds import ArmKind

INK, FAINT, CLEAR = "#1f2328", "#d0d4da", "rgba(0,0,0,0)"
"""Text and axes, grid lines, and a transparent background."""

REMOVED_SCALE = [[0.0, "#b35806"], [0.25, "#f1a340"], [0.5, "#f7f7f7"], [0.75, "#67a9cf"], [1.0, "#08519c"]]
"""Fraction removed, from −1 to 1: orange adds to the shift, blue removes it. Colour-blind readers can tell them apart."""

HOLLOW_SCALE = [[0, "white"], [1, "white"]]
"""Cells that cost too much: their number is shown without a colour."""


@dataclass(frozen=True)
class Style:
    """The colour of a kind of arm, and its shape for readers who do not see colours.

    Attributes:
        color: as CSS spells it.
        symbol: the marker in figures, by plotly's name.
        glyph: the same shape as a character, for tables.
    """

    color: str
    symbol: str
    glyph: str


STYLES: Mapping[ArmKind, Style] = {
    "base": Style("#4d4d4d", "circle", "●"),
    "secure": Style("#0072b2", "square", "■"),
    "insecure": Style("#c44601", "diamond", "◆"),
    "further secure": Style("#2a5f9e", "square-open", "□"),
    "ablated": Style("#00795a", "star", "★"),
    "random": Style("#767676", "x", "✖"),
    "covariance": Style("#5b5ea6", "hexagon", "⬢"),
    "shuffled": Style("#a3437f", "cross", "✚"),
    "selected": Style("#b0263a", "hexagram", "✶"),
    "component": Style("#8a6d5a", "triangle-down", "▼"),
    "benign": Style("#3f6f8f", "pentagon", "⬟"),
    "organism": Style("#6d5f00", "bowtie", "⧓"),
    "mean shift": Style("#2f7d4f", "star-triangle-up", "⋆"),
    "last block": Style("#4c7a1f", "star-square", "✦"),
    "logit bias": Style("#6b7a1a", "diamond-tall", "♦"),
    "iterated": Style("#0d6d6d", "octagon", "⯃"),
    "ablated elsewhere": Style("#1f6f63", "star-diamond", "✧"),
    "control elsewhere": Style("#85858a", "diamond-cross", "❖"),
    "steered": Style("#8f6400", "triangle-up", "▲"),
}  # after the palette of Okabe and Ito, darkened until text on white is readable
