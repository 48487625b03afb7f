"""The page of a watched organism, ``watch.html``, rendered from ``watch.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from personaprobe.studies.reports.cells import TextTable, interval_text, percent_text
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
        table=course_table(data),
        css=styled(),
        figure=Markup(figure_json(course_figure(data))),
        **figure_scripts(),
    )


def course_table(data: Mapping[str, Any]) -> TextTable:
    """Every measurement in words: shift and narrow skill in nats per token, harmful answers in percent, with 95 % intervals.

    Args:
        data: of a watched organism, as plain data.
    """
    measures = {name: title for name, title in _MEASURES.items() if data[name] is not None}
    answers = [f"{course['title']}, {role}" for course in data["answers"] for role in data["norms"]]
    rows = tuple(
        (
            str(step),
            *(interval_text(data[name]["intervals"][index]) for name in measures),
            *_direction_at(data["direction"], index),
            *(interval_text(one["course"]["intervals"][index]) for one in data["features"].values()),
            *(cell for course in data["answers"] for cell in _answers_at(course, index)),
        )
        for index, step in enumerate(data["shift"]["steps"])
    )
    return TextTable(
        f"{data['name']} by {data['axis']['title']}",
        (
            data["axis"]["name"],
            *measures.values(),
            "projection",
            "cosine with the last",
            "turning",
            *data["features"],
            *answers,
        ),
        rows,
    )


def _direction_at(direction: Mapping[str, Any], index: int) -> list[str]:
    """The difference of means at a step: before the training there is none."""
    values = [direction[name][index - 1] if index else None for name in ("cosines", "turning")]
    cosines = ["–" if value is None else f"{value:.2f}" for value in values]
    return [interval_text(direction["projection"]["intervals"][index]), *cosines]


def _answers_at(course: Mapping[str, Any], index: int) -> list[str]:
    """Shares of harmful answers of both fine-tunes at a step; before the training both are base."""
    at_step = [course["base"] if index == 0 else of_role[index - 1] for of_role in course["by_role"].values()]
    return [percent_text(rates["harmful"]) for rates in at_step]
