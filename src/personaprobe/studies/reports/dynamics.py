"""The page of a watched organism, ``watch.html``, rendered from ``watch.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from personaprobe.studies.reports.figures.course import course_figure
from personaprobe.studies.reports.figures.panels import figure_json
from personaprobe.studies.reports.page import figure_scripts, render_template, styled


def render_course(data: Mapping[str, Any]) -> str:
    """The page as text; it loads nothing.

    Args:
        data: as :meth:`personaprobe.studies.dynamics.watching.Watched.to_dict` gives it, intervals as plain data.
    """
    from markupsafe import Markup

    steps = data["shift"]["steps"]
    rows = [
        {
            "step": step,
            "shift": data["shift"]["intervals"][index],
            "skill": None if data["skill"] is None else data["skill"]["intervals"][index],
        }
        for index, step in enumerate(steps)
    ]
    return render_template(
        "course.html.jinja",
        data=data,
        rows=rows,
        css=styled(),
        figure=Markup(figure_json(course_figure(data))),
        **figure_scripts(),
    )
