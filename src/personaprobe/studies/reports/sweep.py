"""The page of a sweep, ``sweep.html``, rendered from ``sweep.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from personaprobe.studies.reports.figures.panels import figure_json
from personaprobe.studies.reports.figures.sweep_map import sweep_map
from personaprobe.studies.reports.page import figure_scripts, render_template, styled
from personaprobe.studies.reports.sections import Rows, outside_sections


def render_sweep(data: Mapping[str, Any], answers: Rows = ()) -> str:
    """The page as text. Its policy forbids the browser to load anything, and to run scripts other than its own two.

    Args:
        data: the sweep as plain data (``sweep.json``).
        answers: a sweep records none.
    """
    from markupsafe import Markup

    limit = data["bounds"]["max_perplexity_ratio"]
    figure = sweep_map(data["sweep"], data["chosen"], limit)
    return render_template(
        "sweep.html.jinja",
        data=data,
        css=styled(),
        figure=Markup(figure_json(figure)),
        cells=sorted(data["sweep"], key=_removed, reverse=True),
        sections=outside_sections("sweep", data, answers),
        **figure_scripts(),
    )


def _removed(cell: Mapping[str, Any]) -> float:
    fraction = cell["fraction_removed"]
    return -math.inf if fraction is None else fraction
