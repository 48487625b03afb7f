"""The page of an evaluation, ``evaluation.html``, rendered from ``evaluation.json`` and ``answers.parquet``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from personaprobe.effects.judges.rates import DEFINITIONS
from personaprobe.studies.arms.kinds import ArmKind
from personaprobe.studies.reports.figures.styles import STYLES
from personaprobe.studies.reports.page import NOT_RECORDED, flat, render_template, styled
from personaprobe.studies.reports.sections import Rows, outside_sections

SHOWN_QUESTIONS = 1
"""Questions of each family whose answers the page shows."""


@dataclass(frozen=True)
class JudgedAnswer:
    """One judged answer as the page shows it."""

    arm: str
    kind: ArmKind
    text: str
    misaligned: bool
    scores: str


@dataclass(frozen=True)
class JudgedCard:
    """A question with the first answer of every arm."""

    family: str
    question: str
    answers: tuple[JudgedAnswer, ...]


def render_evaluation(data: Mapping[str, Any], answers: Rows) -> str:
    """The page as text. It has no script, and its policy forbids the browser to load anything.

    Args:
        data: the evaluation as plain data (``evaluation.json``).
        answers: the judged answers (``answers.parquet``); empty where they were not recorded.
    """
    arms = data["arms"]
    reformatted = [arm for arm in arms if len(arm["forms"]) > 1]
    return render_template(
        "evaluation.html.jinja",
        data=data,
        title=data.get("title", f"title {NOT_RECORDED}"),
        css=styled(),
        styles=STYLES,
        arms=arms,
        reformatted=[arm["name"] for arm in reformatted],
        forms=list(_rows([arm["forms"] for arm in reformatted])),
        families=list(_rows([arm["families"] for arm in arms])),
        estimates=(estimates := list(_estimates(data))),
        estimated_kinds=list(dict.fromkeys(kind for part in estimates for kind in part["results"]["shares"])),
        n_answers=sum(arm["plain"]["n"] for arm in arms),
        cards=list(judged_cards(arms, answers)),
        sections=outside_sections("evaluation", data, answers),
        provenance=list(flat(data["provenance"])),
    )


def _estimates(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Shares and contrasts on all questions, on each set apart, and on benign ones; earlier versions recorded no shares."""
    sets = data.get("sets") or {}
    every = {"all questions": data, **(sets if len(sets) > 1 else {}), "benign": data.get("benign") or {}}
    for name, results in every.items():
        if results.get("power") and results.get("shares"):
            yield {"name": name, "results": results}


def _rows(columns: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[Any]]]:
    """Columns by arm as rows by name, in the order in which names first occur."""
    for name in dict.fromkeys(name for column in columns for name in column):
        yield name, [column.get(name) for column in columns]


def judged_cards(arms: Sequence[Mapping[str, Any]], answers: Rows) -> Iterator[JudgedCard]:
    """The first plain questions of each family, with the first answer of every arm."""
    by_arm = {arm["name"]: [row for row in answers if row["arm"] == arm["name"]] for arm in arms}
    first_arm = next(iter(by_arm.values()), [])
    chosen: dict[str, dict[str, str]] = {}
    for row in first_arm:
        questions = chosen.setdefault(row["family"], {})
        if row["form"] == "plain" and len(questions) < SHOWN_QUESTIONS:
            questions.setdefault(row["question_id"], row["question"])
    for family, questions in chosen.items():
        for question_id, question in questions.items():
            matching = (
                [row for row in rows if row["question_id"] == question_id] for rows in by_arm.values()
            )
            yield JudgedCard(family, question, tuple(_answer(rows[0]) for rows in matching if rows))


def _answer(row: Mapping[str, Any]) -> JudgedAnswer:
    scores = ", ".join(_score(row, rubric) for rubric in ("aligned", "coherent"))
    return JudgedAnswer(row["arm"], row["kind"], row["answer"].strip(), _is_misaligned(row), scores)


def _score(row: Mapping[str, Any], rubric: str) -> str:
    score = row[rubric]
    return f"{rubric}: {row[f'{rubric}_unscored']}" if score is None else f"{rubric} {score:.0f}"


def _is_misaligned(row: Mapping[str, Any]) -> bool:
    """Whether an answer is coherent and misaligned by the first definition (Betley et al. 2025)."""
    first = DEFINITIONS[0]
    if row["aligned"] is None or row["coherent"] is None:
        return False
    return first.misaligned(row["aligned"]) and first.coherent(row["coherent"])
