"""``personaprobe judge``: score answers that are already there, whatever gave them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from personaprobe.cli.options import judge_options, telling_options
from personaprobe.cli.terminal.console import console, study_progress
from personaprobe.cli.terminal.output_folders import refuse_unwritable
from personaprobe.compute.hardware import DTYPES

if TYPE_CHECKING:
    from personaprobe.effects.judges.agreement import Agreement
    from personaprobe.effects.judges.rates import Judged, Summary
    from personaprobe.effects.judges.rubrics import Rubric
    from personaprobe.studies.judging.judge_answers import Answers


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@judge_options
@click.option(
    "--rubrics",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A published question file or its name, whose judge_prompts are asked by the column question_id.  "
    "[default: our own]",
)
@click.option("--by", help="Column whose values are told apart.  [default: group or arm, where there is one]")
@click.option("--device", help="Of a local judge: cpu, cuda, cuda:1 or mps.")
@click.option("--dtype", type=click.Choice(DTYPES), help="Of a local judge.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="[default: FILE with .judged.csv]"
)
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    default="runs/judgements",
    show_default=True,
    help="Finished judgements are kept there; an interrupted run resumes.",
)
@telling_options
def judge(
    *,
    file: Path,
    judge_name: str,
    rubrics: Path | None,
    by: str | None,
    at_once: int,
    device: str | None,
    dtype: str | None,
    out: Path | None,
    work: Path,
    quiet: bool,
    as_json: bool,
) -> None:
    """Judge the answers in FILE: a CSV or Parquet file with the columns question and answer, from any model or tool, or
    the folder of a finished run, whose answers are judged again without being drawn again.

    Where FILE holds another judge's scores in a column aligned, the agreement of the two is told. The score of a model
    that is asked for a number is the expected number under its probabilities (Betley et al. 2025); an answer without a
    score is counted as unscored, with the reason. Rates are told in every published definition.

    \b
    Examples:
      personaprobe judge results.csv
      personaprobe judge runs/eval-toxic-persona-advice --judge local:demo
      personaprobe judge results.csv --judge openai:gpt-4o-2024-08-06@https://api.openai.com/v1 --rubrics first_plot
    """
    from personaprobe.effects.judges.judge import find_judge
    from personaprobe.effects.judges.rates import summarise
    from personaprobe.models.loading import Placement
    from personaprobe.storage.plain_json import plain
    from personaprobe.storage.run_cache import Memory
    from personaprobe.studies.judging.judge_answers import Answers, judge_answers, tokens_asked

    answers = Answers.read(file.expanduser())
    asked = _rubrics(answers, rubrics)
    target = _target(file.expanduser()) if out is None else out.expanduser()
    refuse_unwritable(target.parent)
    chosen = find_judge(judge_name, Placement(device, dtype), at_once)
    if not quiet:
        n = sum(map(len, asked))
        click.echo(f"{n:,} judgements, about {tokens_asked(asked, answers):,} tokens to read", err=True)
    judged = judge_answers(
        chosen,
        asked,
        answers,
        Memory(work / "parts"),
        study_progress(quiet),
    )
    answers.write(target, judged)
    summaries = {name: summarise(part) for name, part in _grouped(answers, judged, by).items()}
    agreement = answers.agreement(judged)
    if as_json:
        told = {name: summary.to_dict() for name, summary in summaries.items()}
        click.echo(
            json.dumps(
                plain(
                    {
                        "judge": chosen.name,
                        "file": target,
                        "groups": told,
                        "agreement": None if agreement is None else asdict(agreement),
                    }
                ),
                ensure_ascii=False,
            )
        )
    else:
        _show(summaries)
        if agreement is not None:
            click.echo(_agreement(agreement))
        click.echo(f"Judged by {chosen.name}: {target}")


def _target(file: Path) -> Path:
    """Beside the file, or in the run folder; what was judged first stays."""
    return file / "answers.judged.csv" if file.is_dir() else file.with_suffix(".judged.csv")


def _agreement(found: Agreement) -> str:
    return (
        f"Against the scores on file: {found.n} answers, {found.n_bad} of them misaligned there; "
        f"κ {found.kappa:.2f} of misaligned, rank correlation {found.spearman:.2f}, AUC {found.auc:.2f}"
    )


def _rubrics(answers: Answers, published_file: Path | None) -> list[Mapping[str, Rubric]]:
    """Rubrics of every answer: our own, or those of its question in a published file."""
    from personaprobe.effects.judges.rubrics import OWN, published
    from personaprobe.errors import DataError, suggest
    from personaprobe.questions.catalog import question_file
    from personaprobe.questions.free import load_questions

    if published_file is None:
        return [OWN] * len(answers.rows)
    known = {q.id: published(q.rubrics) for q in load_questions(question_file(str(published_file)))}
    for row in answers.rows:
        found = known.get(row.get("question_id", ""), {})
        if not {"aligned", "coherent"} <= set(found):
            name = row.get("question_id", "")
            raise DataError(
                f"{published_file} has no rubrics aligned and coherent for question_id {name!r}: {suggest(name, known)}"
            )
    return [known[row["question_id"]] for row in answers.rows]


def _grouped(answers: Answers, judged: Sequence[Judged], by: str | None) -> dict[str, list[Judged]]:
    by = by or next((name for name in ("group", "arm") if name in answers.columns), "group")
    groups: dict[str, list[Judged]] = {}
    for row, each in zip(answers.rows, judged, strict=True):
        groups.setdefault(row.get(by) or "all", []).append(each)
    return groups


def _show(summaries: Mapping[str, Summary]) -> None:
    from rich.table import Table

    from personaprobe.effects.judges.rates import DEFINITIONS

    table = Table("group", "definition", title="Misaligned answers", title_justify="left")
    for heading in ("misaligned", "of coherent", "of all scored", "useful"):
        table.add_column(heading, justify="right")
    for name, summary in summaries.items():
        for place, rate in enumerate(summary.rates):
            group, useful = ("", "") if place else (name, str(summary.useful))
            counted = (str(rate.n_misaligned), str(rate.of_coherent), str(rate.of_scored))
            table.add_row(group, rate.definition, *counted, useful)
    console().print(table)
    for name, summary in summaries.items():
        click.echo(f"{name}: {summary.n} answers; unscored: {_reasons(summary)}")
    click.echo("; ".join(f"{definition.name}: {definition.rule}" for definition in DEFINITIONS))


def _reasons(summary: Summary) -> str:
    told = [
        f"{rubric} {reason}: {count}"
        for rubric, reasons in summary.unscored.items()
        for reason, count in reasons.items()
    ]
    return ", ".join(told) or "none"
