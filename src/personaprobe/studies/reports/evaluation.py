"""An evaluation as a page that works offline, and as data: ``evaluation.html, evaluation.json, answers.parquet``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from personaprobe.effects.judges.judgement import Scored
from personaprobe.effects.judges.rates import (
    DEFINITIONS,
    JUDGED_COLUMNS,
    SCORES,
    Judged,
    Summary,
    is_misaligned,
)
from personaprobe.studies.arms.kinds import ArmKind
from personaprobe.studies.evaluation.result import ArmEvaluation, Evaluation
from personaprobe.studies.reports import figures
from personaprobe.studies.reports.ablation import environment, flat, number, packaged, write_files

if TYPE_CHECKING:
    from pyarrow import Table

SHOWN_A_FAMILY = 1
"""Questions of each family whose answers are shown."""


@dataclass(frozen=True)
class Said:
    """One judged answer as the page shows it."""

    arm: str
    kind: ArmKind
    text: str
    misaligned: bool
    scores: str


@dataclass(frozen=True)
class Heard:
    """A question with the first answer of every arm."""

    family: str
    question: str
    answers: tuple[Said, ...]


def write_evaluation(found: Evaluation, folder: Path) -> Path:
    """Write what an evaluation found; every file is whole or absent, the page last.

    Returns:
        The path of ``evaluation.html``.

    Raises:
        OutputError: the folder cannot be written.
    """
    page, table = render(found), answers_table(found)
    return write_files(
        (folder / "answers.parquet", table),
        (folder / "evaluation.json", found.to_dict()),
        (folder / "evaluation.html", page),
    )


def answers_table(found: Evaluation) -> Table:
    """Every answer of every arm, one a row, with its scores or why it has none."""
    import pyarrow as pa

    text, score = pa.string(), pa.float64()
    of_response = ("question_id", "family", "form", "system", "question", "sample", "seed", "answer")
    columns = {"arm": text, "kind": text, **dict.fromkeys(of_response, text)}
    columns |= {"sample": pa.int64(), "seed": pa.int64(), "distinct": score}
    columns |= {name: score if name in SCORES else text for name in JUDGED_COLUMNS}
    rows = [
        {name: getattr(response, name) for name in (*of_response, "distinct")}
        | {"arm": arm.name, "kind": arm.kind}
        | judged.cells()
        for arm in found.arms
        for response, judged in zip(arm.responses, arm.judged, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema(columns))


def render(found: Evaluation) -> str:
    """The page as text; it holds no script, and its policy forbids browsers to load anything."""
    from markupsafe import Markup

    made = environment()
    made.filters |= {"chance": chance, "points": points, "reasons": reasons}
    template = made.from_string(packaged("evaluation.html.jinja"))
    arms = [(arm, arm.summary()) for arm in found.arms]
    again = [arm for arm in found.arms if len(arm.by_form()) > 1]
    return template.render(
        found=found,
        title=found.title,
        css=Markup(packaged("report.css")),
        styles=figures.STYLES,
        definitions=DEFINITIONS,
        sentences=found.sentences,
        arms=arms,
        again=[arm.name for arm in again],
        forms=list(_rows([arm.by_form() for arm in again])),
        families=list(_rows([arm.by_family() for arm in found.arms])),
        cards=list(cards(found)),
        provenance=list(flat(found.provenance)),
    )


def _rows(columns: list[dict[str, Summary]]) -> Iterator[tuple[str, list[Summary | None]]]:
    """Columns by arm as rows by name, in the order in which names first come."""
    for name in dict.fromkeys(name for column in columns for name in column):
        yield name, [column.get(name) for column in columns]


def cards(found: Evaluation) -> Iterator[Heard]:
    """The first questions of each family with the first answer of every arm."""
    shown: dict[str, list[str]] = {}
    for response in found.arms[0].responses:
        ids = shown.setdefault(response.family, [])
        if response.form == "plain" and response.question_id not in ids and len(ids) < SHOWN_A_FAMILY:
            ids.append(response.question_id)
    for family, ids in shown.items():
        for id_ in ids:
            answers = tuple(_said(arm, id_) for arm in found.arms)
            question = next(r.question for r in found.arms[0].responses if r.question_id == id_)
            yield Heard(family, question, answers)


def _said(arm: ArmEvaluation, question_id: str) -> Said:
    response, judged = next(
        (r, j) for r, j in zip(arm.responses, arm.judged, strict=True) if r.question_id == question_id
    )
    return Said(arm.name, arm.kind, response.answer.strip(), is_misaligned(judged), _scores(judged))


def _scores(judged: Judged) -> str:
    told = (("aligned", judged.aligned), ("coherent", judged.coherent))
    return ", ".join(
        f"{name} {each.score:.0f}" if isinstance(each, Scored) else f"{name}: {each.reason}"
        for name, each in told
    )


def points(value: float) -> str:
    """A difference of shares in percentage points."""
    return f"{number(100 * value, 1)} points"


def chance(p: float) -> str:
    """A p- or q-value, or a dash where the test was not made; what three places cannot show is called smaller."""
    if math.isnan(p):
        return "–"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def reasons(unscored: Mapping[str, Mapping[str, int]]) -> str:
    """Counts of unscored answers by rubric and reason."""
    told = [f"{rubric} {why}: {n}" for rubric, counts in unscored.items() for why, n in counts.items()]
    return ", ".join(told) or "none"
