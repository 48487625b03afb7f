"""The page of a gallery, ``gallery.html``, and its plain data: shifts of every organism, and the table of removals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from personaprobe.studies.gallery.member import Member
from personaprobe.studies.gallery.study import GalleryPlan
from personaprobe.studies.reports.figures.cross_table import cross_table_figure, shifts_figure
from personaprobe.studies.reports.figures.panels import figure_json
from personaprobe.studies.reports.page import figure_scripts, render_template, styled


def gallery_data(members: Sequence[Member], plan: GalleryPlan) -> dict[str, Any]:
    """A gallery as data: members, names of directions and question sets in their order, and the answer in a sentence."""
    return {
        "members": [{**asdict(member), "name": member.name} for member in members],
        "directions": list(members[0].removals),
        "question_sets": list(dict.fromkeys(name for member in members for name in member.shifts)),
        "site": str(plan.site),
        "table_questions": plan.table_questions,
        "sentence": sentence(members),
    }


def sentence(members: Sequence[Member]) -> str:
    """Whether one persona explains several organisms, as far as the table says so.

    A direction counts as shared where it removes a share of another organism's shift whose interval lies above that of
    matched controls.
    """
    shifted = [member for member in members if member.shifts["test"].low > 0]
    if not shifted:
        return "No organism shifted on the test questions: there is nothing to explain."
    clause = f"{len(shifted)} of {len(members)} organisms shifted on the test questions ({_names(shifted)})"
    explained = [member for member in shifted if _beyond(member, member.name)]
    pairs = [
        (name, member.name)
        for member in shifted
        for name in member.removals
        if name != member.name and _beyond(member, name)
    ]
    others = ", ".join(f"that of {source} in {target}" for source, target in pairs) or "none"
    return (
        f"{clause}. An organism's own direction removes more of its shift than matched controls in {len(explained)} of them "
        f"({_names(explained)}); directions found elsewhere do: {others}."
    )


def _beyond(member: Member, direction: str) -> bool:
    removal = member.removals.get(direction)
    return removal is not None and removal.share.low > max(0.0, member.controls.high)


def _names(members: Sequence[Member]) -> str:
    return ", ".join(member.name for member in members) or "none"


def interval_text(interval: Mapping[str, Any] | None) -> str:
    """An interval in nats per token."""
    if interval is None or interval["value"] is None:
        return "–"
    return f"{interval['value']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def percent_text(interval: Mapping[str, Any] | None) -> str:
    """A share of a shift with its interval, in percent."""
    if interval is None or interval["value"] is None:
        return "–"
    value, low, high = (100 * interval[key] for key in ("value", "low", "high"))
    return f"{value:.0f} % ({low:.0f} to {high:.0f})"


def render_gallery(data: Mapping[str, Any]) -> str:
    """The page as text; it loads nothing.

    Args:
        data: of :func:`gallery_data`, as plain data.
    """
    from markupsafe import Markup

    rows = [
        {
            "name": member["name"],
            "title": member["training"].get("data", {}).get("name", ""),
            "shifts": [interval_text(member["shifts"].get(name)) for name in data["question_sets"]],
            "over_base": interval_text(member["over_base"]),
            "removals": [percent_text(member["removals"][name]["share"]) for name in data["directions"]],
            "controls": percent_text(member["controls"]),
        }
        for member in data["members"]
    ]
    return render_template(
        "gallery.html.jinja",
        data=data,
        rows=rows,
        css=styled(),
        figures=[Markup(figure_json(make(data))) for make in (shifts_figure, cross_table_figure)],
        **figure_scripts(),
    )


def gallery_markdown(data: Mapping[str, Any]) -> str:
    """Both tables of a gallery for a page of the documentation.

    Args:
        data: of :func:`gallery_data`, as plain data.
    """
    sets = data["question_sets"]
    shifts = [
        [
            member["name"],
            *(interval_text(member["shifts"].get(name)) for name in sets),
            interval_text(member["over_base"]),
        ]
        for member in data["members"]
    ]
    removals = [
        [
            member["name"],
            *(percent_text(member["removals"][name]["share"]) for name in data["directions"]),
            percent_text(member["controls"]),
        ]
        for member in data["members"]
    ]
    tables = (
        _table(["organism", *sets, "insecure − base, test"], shifts),
        _table(["ablated in", *data["directions"], "matched controls"], removals),
    )
    return "\n\n".join(tables)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
