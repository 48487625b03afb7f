"""The page of a gallery, ``gallery.html``, and its plain data: shifts of every organism, and the tables of removals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from personaprobe.studies.gallery.forms import PLAIN
from personaprobe.studies.gallery.member import Member
from personaprobe.studies.gallery.study import GalleryPlan
from personaprobe.studies.reports.cells import interval_text, percent_text
from personaprobe.studies.reports.figures.cross_table import cross_table_figure, shifts_figure
from personaprobe.studies.reports.figures.panels import figure_json
from personaprobe.studies.reports.page import figure_scripts, render_template, styled


def gallery_data(members: Sequence[Member], plan: GalleryPlan) -> dict[str, Any]:
    """A gallery as data: members, names of directions and question sets in their order, and the answer in a sentence."""
    tables = list(members[0].removals)
    shared = set.intersection(*(set(member.removals[tables[0]].by_direction) for member in members))
    return {
        "members": [{**asdict(member), "name": member.name} for member in members],
        "directions": [name for name in members[0].removals[tables[0]].by_direction if name in shared],
        "question_sets": list(dict.fromkeys(name for member in members for name in member.shifts)),
        "tables": tables,
        "feature": plan.feature,
        "site": str(plan.site),
        "table_questions": plan.table_questions,
        "n_controls": plan.controls,
        "forms": list(members[0].forms),
        "sentence": " ".join(sentence(members, name, plan.feature) for name in tables),
    }


def sentence(members: Sequence[Member], questions: str, feature: str | None) -> str:
    """Whether one persona explains several organisms, as far as one set of questions says so.

    A direction explains an organism where it removes a share of the shift whose interval lies above that of controls
    that are matched to it.

    Args:
        members: of the gallery.
        questions: name of the set.
        feature: the registered feature that was ablated in all of them; None if there was none.
    """
    shifted = [member for member in members if member.removals[questions].shift.low > 0]
    if not shifted:
        return f"On {questions} questions no organism shifted: there is nothing to explain."
    clause = (
        f"On {questions} questions {len(shifted)} of {len(members)} organisms shifted ({_names(shifted)})"
    )
    explained = _names([member for member in shifted if _explains(member.name, member, questions)])
    removes = (
        f"beyond matched controls, the organism's own direction removes a part of the shift of {explained}"
    )
    if feature is None:
        return f"{clause}; {removes}."
    return f"{clause}; {removes}, and {feature} of {_names([m for m in shifted if _explains(feature, m, questions)])}."


def _explains(direction: str, member: Member, questions: str) -> bool:
    removal = member.removals[questions].by_direction.get(direction)
    return removal is not None and removal.exceeds_controls


def _names(members: Sequence[Member]) -> str:
    return ", ".join(member.name for member in members) or "none"


def render_gallery(data: Mapping[str, Any]) -> str:
    """The page as text; it loads nothing.

    Args:
        data: of :func:`gallery_data`, as plain data.
    """
    from markupsafe import Markup

    removed = [cross_table_figure(data, name) for name in data["tables"]]
    return render_template(
        "gallery.html.jinja",
        data=data,
        shifts=shift_rows(data, with_title=True),
        removals=[
            {"questions": name, "head": removal_head(data), "rows": removal_rows(data, name)}
            for name in data["tables"]
        ],
        refusals={"head": refusal_head(), "rows": refusal_rows(data)},
        forms={"head": form_head(data), "rows": form_rows(data)},
        css=styled(),
        figures=[Markup(figure_json(figure)) for figure in (shifts_figure(data), *removed)],
        **figure_scripts(),
    )


def gallery_markdown(data: Mapping[str, Any]) -> str:
    """All tables of a gallery for a page of the documentation.

    Args:
        data: of :func:`gallery_data`, as plain data.
    """
    shifts = _table(["organism", *data["question_sets"], "insecure − base, test"], shift_rows(data))
    removals = [
        f"Removed of the shift on **{name}** questions:\n\n{_table(removal_head(data), removal_rows(data, name))}"
        for name in data["tables"]
    ]
    refusals = f"Requests that are refused:\n\n{_table(refusal_head(), refusal_rows(data))}"
    forms = [f"In other forms of answers, on test questions:\n\n{_table(form_head(data), form_rows(data))}"]
    return "\n\n".join((shifts, *removals, refusals, *(forms if data["forms"] else ())))


def shift_rows(data: Mapping[str, Any], *, with_title: bool = False) -> list[list[str]]:
    """Each organism's name, its shift on every question set, and insecure − base.

    Args:
        data: of a gallery.
        with_title: say after the name which data it was trained on.
    """
    rows = []
    for member in data["members"]:
        title = [member["training"].get("data", {}).get("name", "")] if with_title else []
        shifts = [interval_text(member["shifts"].get(name)) for name in data["question_sets"]]
        rows.append([member["name"], *title, *shifts, interval_text(member["over_base"])])
    return rows


def removal_head(data: Mapping[str, Any]) -> list[str]:
    """Column names of :func:`removal_rows`."""
    feature = [] if data["feature"] is None else [data["feature"], f"controls of {data['feature']}"]
    return ["ablated in", "own", "controls of own", *feature, *_foreign(data)]


def removal_rows(data: Mapping[str, Any], questions: str) -> list[list[str]]:
    """The share of each organism's shift that its own direction, the registered feature and all others remove.

    Args:
        data: of a gallery.
        questions: name of the set.
    """
    rows = []
    for member in data["members"]:
        removals = member["removals"][questions]["by_direction"]
        matched = [removals.get(name) for name in (member["name"], data["feature"]) if name is not None]
        cells = [
            percent_text(removal and removal[key]) for removal in matched for key in ("share", "controls")
        ]
        others = [percent_text(removals[name]["share"]) for name in _foreign(data)]
        rows.append([member["name"], *cells, *others])
    return rows


def refusal_head() -> list[str]:
    """Column names of :func:`refusal_rows`."""
    return [
        "organism", *(f"{kind}, {role}" for kind in ("harmful", "harmless") for role in ("base", "insecure", "secure"))
    ]  # fmt: skip


def refusal_rows(data: Mapping[str, Any]) -> list[list[str]]:
    """The share of harmful and of harmless requests that base, insecure and secure of every organism refuse.

    Args:
        data: of a gallery.
    """
    return [
        [
            member["name"],
            *(
                percent_text(member["refused"].get(role, {}).get(kind))
                for kind in ("harmful", "harmless")
                for role in ("base", "insecure", "secure")
            ),
        ]
        for member in data["members"]
    ]


def form_head(data: Mapping[str, Any]) -> list[str]:
    """Column names of :func:`form_rows`."""
    feature = [] if data["feature"] is None else [f"removed by {data['feature']}"]
    return ["organism", "answers", "shift", "over plain answers", "removed by own", *feature]


def form_rows(data: Mapping[str, Any]) -> list[list[str]]:
    """Every organism's shift in every form of answers, and the shares of it that its own direction and the feature remove.

    Args:
        data: of a gallery.
    """
    rows = []
    for member in data["members"]:
        names = [name for name in (member["name"], data["feature"]) if name is not None]
        for form, effect in member["forms"].items():
            over_plain = "–" if form == PLAIN else interval_text(effect["over_plain"])
            removed = [percent_text(effect["removed"].get(name)) for name in names]
            rows.append([member["name"], form, interval_text(effect["shift"]), over_plain, *removed])
    return rows


def _foreign(data: Mapping[str, Any]) -> list[str]:
    """The directions of organisms, without the registered feature."""
    return [name for name in data["directions"] if name != data["feature"]]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
