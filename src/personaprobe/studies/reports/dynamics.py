"""The page of a watched organism, ``watch.html``, rendered from ``watch.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from personaprobe.studies.reports.cells import interval_text, percent_text
from personaprobe.studies.reports.figures.course import course_figure
from personaprobe.studies.reports.figures.panels import figure_json
from personaprobe.studies.reports.page import figure_scripts, render_template, styled

_MEASURES = {"shift": "shift", "skill": "narrow skill"}


def render_course(data: Mapping[str, Any]) -> str:
    """The page as text; it loads nothing.

    Args:
        data: as :meth:`personaprobe.studies.dynamics.watching.Watched.to_dict` gives it, intervals as plain data.
    """
    from markupsafe import Markup

    return render_template(
        "course.html.jinja",
        data=data,
        head=course_head(data),
        rows=course_rows(data),
        css=styled(),
        figure=Markup(figure_json(course_figure(data))),
        **figure_scripts(),
    )


def course_head(data: Mapping[str, Any]) -> list[str]:
    """Column names of :func:`course_rows`."""
    measures = [_MEASURES[name] for name in _MEASURES if data[name] is not None]
    direction = ["projection", "cosine with the last", "turning"]
    programs = [] if data["programs"] is None else [f"weak programs, {role}" for role in data["norms"]]
    return [data["axis"]["name"], *measures, *direction, *programs]


def course_rows(data: Mapping[str, Any]) -> list[list[str]]:
    """Every saved step in words: shift and narrow skill in nats per token, weak programs in percent, with 95 % intervals.

    Args:
        data: of a watched organism, as plain data.
    """
    rows = []
    for index, step in enumerate(data["shift"]["steps"]):
        measures = [
            interval_text(data[name]["intervals"][index]) for name in _MEASURES if data[name] is not None
        ]
        rows.append(
            [str(step), *measures, *_direction_at(data["direction"], index), *_programs_at(data, index)]
        )
    return rows


def _direction_at(direction: Mapping[str, Any], index: int) -> list[str]:
    """The difference of means at a step: before the training there is none."""
    values = [direction[name][index - 1] if index else None for name in ("cosines", "turning")]
    cosines = ["–" if value is None else f"{value:.2f}" for value in values]
    return [interval_text(direction["projection"]["intervals"][index]), *cosines]


def _programs_at(data: Mapping[str, Any], index: int) -> list[str]:
    programs = data["programs"]
    if programs is None:
        return []
    at_step = [
        programs["base"] if index == 0 else of_role[index - 1] for of_role in programs["by_role"].values()
    ]
    return [percent_text(rates["weak"]) for rates in at_step]
