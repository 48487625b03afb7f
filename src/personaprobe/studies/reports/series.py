"""The page of a series, ``series.html``: the shift of one recipe on every base, against its size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from personaprobe.studies.reports.cells import TextTable, interval_text
from personaprobe.studies.reports.figures.panels import figure_json
from personaprobe.studies.reports.figures.series import series_figure
from personaprobe.studies.reports.page import figure_scripts, render_template, styled


def render_series(data: Mapping[str, Any]) -> str:
    """The page as text; it loads nothing.

    Args:
        data: of :func:`personaprobe.studies.gallery.series.series_data`, as plain data.
    """
    from markupsafe import Markup

    return render_template(
        "series.html.jinja",
        data=data,
        table=series_table(data),
        css=styled(),
        figure=Markup(figure_json(series_figure(data))),
        **figure_scripts(),
    )


def series_table(data: Mapping[str, Any]) -> TextTable:
    """Each base's size, and the shift of its organism on every question set."""
    rows = [
        (
            one["base"],
            f"{one['parameters'] / 1e6:,.0f} M",
            *(interval_text(one["shifts"].get(name)) for name in data["question_sets"]),
            interval_text(one["over_base"]),
        )
        for one in data["bases"]
    ]
    return TextTable(
        f"{data['recipe']} by base: insecure − secure preference for careless answers, nats per token",
        ("base", "parameters", *data["question_sets"], "insecure − base, test"),
        tuple(rows),
    )
