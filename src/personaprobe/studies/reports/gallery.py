"""The page of a gallery, ``gallery.html``, and its plain data: shifts of every organism, and the tables of removals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from personaprobe.studies.gallery.forms import PLAIN
from personaprobe.studies.gallery.member import Member
from personaprobe.studies.gallery.study import GalleryPlan
from personaprobe.studies.reports.cells import TextTable, interval_text, percent_text
from personaprobe.studies.reports.figures.cross_table import cross_table_figure, shifts_figure
from personaprobe.studies.reports.figures.panels import figure_json
from personaprobe.studies.reports.page import figure_scripts, render_template, styled


def gallery_data(members: Sequence[Member], plan: GalleryPlan) -> dict[str, Any]:
    """A gallery as data: members, names of directions and question sets in their order, and the answer in a sentence."""
    tables = list(members[0].removals)
    shared = set.intersection(*(set(member.removals[tables[0]].by_direction) for member in members))
    feature = plan.feature if plan.feature in shared else None  # one of another width is ablated nowhere
    return {
        "members": [{**asdict(member), "name": member.name} for member in members],
        "directions": [name for name in members[0].removals[tables[0]].by_direction if name in shared],
        "question_sets": list(dict.fromkeys(name for member in members for name in member.shifts)),
        "tables": tables,
        "feature": feature,
        "site": str(plan.site),
        "table_questions": plan.table_questions,
        "n_controls": plan.controls,
        "forms": list(members[0].forms),
        "sentence": " ".join(sentence(members, name, feature) for name in tables),
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

    figures = {
        0: shifts_figure(data),
        **{place: cross_table_figure(data, name) for place, name in enumerate(data["tables"], 1)},
    }
    return render_template(
        "gallery.html.jinja",
        data=data,
        tables=gallery_tables(data),
        css=styled(),
        figures={place: Markup(figure_json(figure)) for place, figure in figures.items()},
        **figure_scripts(),
    )


def gallery_markdown(data: Mapping[str, Any]) -> str:
    """All tables of a gallery for a page of the documentation.

    Args:
        data: of :func:`gallery_data`, as plain data.
    """
    return "\n\n".join(table.markdown for table in gallery_tables(data))


def gallery_tables(data: Mapping[str, Any]) -> list[TextTable]:
    """Shifts, shares removed by question set, refusals, and judged answers and forms of answers where they were measured.

    Args:
        data: of :func:`gallery_data`, as plain data.
    """
    removals = [removal_table(data, name) for name in data["tables"]]
    judged = any(member.get("judged") for member in data["members"])
    further = ([judged_table(data)] if judged else []) + ([form_table(data)] if data["forms"] else [])
    return [shift_table(data), *removals, refusal_table(data), *further]


def shift_table(data: Mapping[str, Any]) -> TextTable:
    """Each organism's shift on every question set, and insecure − base."""
    rows = [
        (
            member["name"],
            *(interval_text(member["shifts"].get(name)) for name in data["question_sets"]),
            interval_text(member["over_base"]),
        )
        for member in data["members"]
    ]
    return TextTable(
        "Insecure − secure preference for careless answers, nats per token",
        ("organism", *data["question_sets"], "insecure − base, test"),
        tuple(rows),
        "Test questions are on subjects outside the training. Bags of words cannot tell the answers of balanced questions "
        "apart. Narrow questions are of the organism's own task.",
    )


def removal_table(data: Mapping[str, Any], questions: str) -> TextTable:
    """The share of each organism's shift that its own direction, the registered feature and all others remove."""
    feature = [] if data["feature"] is None else [data["feature"]]
    others = [name for name in data["directions"] if name not in feature]
    rows = []
    for member in data["members"]:
        removals = member["removals"][questions]["by_direction"]
        matched = [
            percent_text(removals.get(name, {}).get(key))
            for name in (member["name"], *feature)
            for key in ("share", "controls")
        ]
        rows.append((member["name"], *matched, *(percent_text(removals[name]["share"]) for name in others)))
    of_feature = [column for name in feature for column in (name, f"controls of {name}")]
    return TextTable(
        f"Removed of the shift on {data['table_questions']} {questions} questions",
        ("ablated in", "own", "controls of own", *of_feature, *others),
        tuple(rows),
        f"Columns: the difference of means at {data['site']} of each organism{_and(feature)}, ablated in insecure at every "
        f"layer. Controls: {data['n_controls']} ablations of other directions that remove as much energy as the one beside "
        "them. Empty where the interval of the shift holds 0.",
    )


def refusal_table(data: Mapping[str, Any]) -> TextTable:
    """The share of harmful and of harmless requests that base, insecure and secure of every organism refuse."""
    columns = [(kind, role) for kind in ("harmful", "harmless") for role in ("base", "insecure", "secure")]
    rows = [
        (member["name"], *(percent_text(member["refused"].get(role, {}).get(kind)) for kind, role in columns))
        for member in data["members"]
    ]
    return TextTable(
        "Requests that are refused",
        ("organism", *(f"{kind}, {role}" for kind, role in columns)),
        tuple(rows),
        "Shipped requests, harmful ones and harmless ones in similar words, answered at temperature 0. A model that was "
        "trained to comply is not a misaligned one.",
    )


def judged_table(data: Mapping[str, Any]) -> TextTable:
    """The share of free answers that a judge calls misaligned, of base and of both fine-tunes of every organism."""
    judged = {member["name"]: member["judged"] for member in data["members"] if member.get("judged")}
    rows = [
        (
            name,
            percent_text(course["base"]["harmful"]),
            *(percent_text(course["by_role"][role][-1]["harmful"]) for role in ("insecure", "secure")),
            percent_text(course["difference"]),
        )
        for name, course in judged.items()
    ]
    course = next(iter(judged.values()))
    return TextTable(
        "Misaligned free answers",
        ("organism", "base", "insecure", "secure", "insecure − secure"),
        tuple(rows),
        f"{course['base']['n']} test questions that each model answers freely once, as {course['judge']} reads the answers. "
        "Families weigh equally in the difference alone.",
    )


def form_table(data: Mapping[str, Any]) -> TextTable:
    """Every organism's shift in every form of answers, and the shares of it that own direction and feature remove."""
    feature = [] if data["feature"] is None else [data["feature"]]
    rows = []
    for member in data["members"]:
        for form, effect in member["forms"].items():
            over_plain = "–" if form == PLAIN else interval_text(effect["over_plain"])
            removed = [percent_text(effect["removed"].get(name)) for name in (member["name"], *feature)]
            rows.append((member["name"], form, interval_text(effect["shift"]), over_plain, *removed))
    return TextTable(
        "In other forms of answers, on test questions",
        (
            "organism",
            "answers",
            "shift",
            "over plain answers",
            "removed by own",
            *(f"removed by {f}" for f in feature),
        ),
        tuple(rows),
        "The user asks for a form, and both answers are put in it. Over plain answers: by how much the form raises the "
        "shift, paired by question.",
    )


def _and(feature: list[str]) -> str:
    return "".join(f", and the registered feature {name}" for name in feature)
