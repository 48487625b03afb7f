"""The figure of what removes the shift: the feature, its parts, controls, and the same ablation in other checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from personaprobe.statistics.intervals import Interval
from personaprobe.studies.arms.kinds import GROUPED
from personaprobe.studies.reports.figures.panels import label, marker, panels, wrapped
from personaprobe.studies.reports.figures.styles import FAINT, INK, STYLES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

ArmData: TypeAlias = Mapping[str, Any]

ROW_NAMES = {"random": "random", "covariance": "covariance", "shuffled": "shuffled labels"}


def removed_figure(data: Mapping[str, Any]) -> Figure | None:
    """The share of the shift that every intervention removes, with its interval; controls of a kind share a row.

    None for a verdict that holds no such shares, as those of earlier versions do not.

    Args:
        data: a verdict as plain data (``verdict.json``).
    """
    rows = list(_rows(data["arms"]))
    if not rows:
        return None
    figure = panels([40 + 32 * len(rows)])
    for name, arms in rows:
        _add_row(figure, name, arms)
    names = [label(name) for name, _ in rows]
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1])
    figure.update_xaxes(title_text="share of the shift removed", tickformat=".0%")
    for x, dash in ((0.0, "solid"), (1.0, "dot")):
        figure.add_vline(x, line={"color": INK, "width": 1, "dash": dash})
    return figure


def _rows(arms: Sequence[ArmData]) -> Iterator[tuple[str, list[ArmData]]]:
    """Names of rows with their arms: one arm a row, or all controls of a kind in a checkpoint."""
    rows: dict[str, list[ArmData]] = {}
    for arm in arms:
        if arm.get("removed", {}).get("value") is None or arm["kind"] == "steered":
            continue
        name = arm["name"]
        if arm["kind"] in GROUPED:
            name = ROW_NAMES.get(arm["kind"], f"controls in {arm['role']}")
        rows.setdefault(name, []).append(arm)
    yield from rows.items()


def _add_row(figure: Figure, name: str, arms: Sequence[ArmData]) -> None:
    shares = [Interval.from_dict(arm["removed"]) for arm in arms]
    kind, single = arms[0]["kind"], len(arms) == 1
    ends = {
        "array": [share.high - share.value for share in shares],
        "arrayminus": [share.value - share.low for share in shares],
        "thickness": 1.5,
        "width": 4,
        "color": STYLES[kind].color,
    }
    figure.add_scatter(
        x=[share.value for share in shares],
        y=[label(name)] * len(shares),
        error_x=ends if single else {"array": [0.0] * len(shares), "color": FAINT},
        mode="markers",
        marker={**marker(kind, 11 if single else 8), "opacity": 1.0 if single else 0.7},
        showlegend=False,
        hovertext=[
            wrapped(arm["name"], f"{share} of the shift, {arm['n_questions']} questions", arm["note"])
            for arm, share in zip(arms, shares, strict=True)
        ],
        hoverinfo="text",
    )
