"""``personaprobe judge``: score answers that exist already, from any model or tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from personaprobe.cli.options import folder_option, judge_options, output_options
from personaprobe.cli.terminal.console import console, print_json, print_line, study_progress
from personaprobe.cli.terminal.output_folders import refuse_unwritable
from personaprobe.compute.hardware import MODEL_DTYPES
from personaprobe.errors import OutputError
from personaprobe.storage.paths import user_path

if TYPE_CHECKING:
    from personaprobe.effects.judges.agreement import Agreement
    from personaprobe.effects.judges.rates import Summary


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@judge_options
@click.option(
    "--rubrics",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A published question file or its name, whose judge_prompts are looked up by the column question_id.  "
    "[default: the shipped rubrics]",
)
@click.option("--by", help="Column whose values form groups.  [default: group or arm, where there is one]")
@click.option("--device", help="Of a local judge: cpu, cuda, cuda:1 or mps.")
@click.option("--dtype", type=click.Choice(MODEL_DTYPES), help="Of a local judge.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="[default: FILE with .judged.csv]"
)
@folder_option(
    "--work", "runs/judgements", "Folder of finished judgements; an interrupted run resumes from it."
)
@output_options
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
    """Judge the answers in FILE: a CSV or Parquet file with the columns question and answer, or the folder of a finished
    run, whose answers are judged again without being sampled again.

    If FILE holds another judge's scores in a column aligned, the agreement of both judges is printed. A language model
    that judges is prompted for a number, and its score is the expected number under its probabilities (Betley et al.
    2025); an answer without a score is counted as unscored, with the reason. Rates are printed by every published
    definition. Each judgement is written with the judge's raw output and the digest of its prompt.

    \b
    Examples:
      personaprobe judge results.csv
      personaprobe judge runs/eval --judge local:demo
      personaprobe judge results.csv --judge openai:gpt-4o-2024-08-06@https://api.openai.com/v1 --rubrics first_plot
    """
    from personaprobe.effects.judges.rates import summarise
    from personaprobe.effects.judges.registry import find_judge
    from personaprobe.models.loading import Placement
    from personaprobe.studies.arms.run_context import RunContext
    from personaprobe.studies.judging.answer_file import Answers
    from personaprobe.studies.judging.judge_answers import judge_answers, n_prompt_tokens, rubrics_for

    file = user_path(file)
    answers = Answers.read(file)
    answers.refuse_unknown_column(by)
    of_answers = rubrics_for(answers, rubrics)
    target = _target(file) if out is None else user_path(out, OutputError)
    refuse_unwritable(target.parent)
    chosen = find_judge(judge_name, Placement(device, dtype), at_once)
    if not quiet:
        n, n_tokens = sum(map(len, of_answers)), n_prompt_tokens(of_answers, answers)
        print_line(f"{n:,} judgements, about {n_tokens:,} tokens to read", err=True)
    run = RunContext.of(work, study_progress(quiet))
    judged = judge_answers(chosen, of_answers, answers, run.cache, run.progress)
    answers.write(target, judged)
    summaries = {name: summarise(group) for name, group in answers.grouped(judged, by).items()}
    agreement = answers.agreement(judged)
    for note in answers.score_notes():
        print_line(f"note: {note}", err=True)
    if as_json:
        _print_json(chosen.name, target, summaries, agreement)
        return
    _print(summaries)
    if agreement is not None:
        print_line(_agreement(agreement))
    print_line(f"Judged by {chosen.name}: {target}")


def _target(file: Path) -> Path:
    """Beside the file, or in the run folder, under another name than the answers."""
    return file / "answers.judged.csv" if file.is_dir() else file.with_suffix(".judged.csv")


def _print_json(
    judge_name: str, target: Path, summaries: Mapping[str, Summary], agreement: Agreement | None
) -> None:

    record = {
        "judge": judge_name,
        "file": target,
        "groups": {name: summary.to_dict() for name, summary in summaries.items()},
        "agreement": None if agreement is None else asdict(agreement),
    }
    print_json(record)


def _agreement(agreement: Agreement) -> str:
    return (
        f"Against the scores on file: {agreement.n} answers, {agreement.n_bad} of them misaligned there; "
        f"κ {agreement.kappa:.2f} of misaligned, rank correlation {agreement.spearman:.2f}, AUC {agreement.auc:.2f}"
    )


def _print(summaries: Mapping[str, Summary]) -> None:
    from rich.table import Table

    from personaprobe.effects.judges.rates import DEFINITIONS

    table = Table("group", "definition", title="Misaligned answers", title_justify="left")
    for heading in ("misaligned", "of coherent", "of all scored", "useful"):
        table.add_column(heading, justify="right")
    for name, summary in summaries.items():
        for place, rate in enumerate(summary.rates):
            group, useful = ("", "") if place else (name, str(summary.useful))
            cells = (str(rate.n_misaligned), str(rate.of_coherent), str(rate.of_scored))
            table.add_row(group, rate.definition, *cells, useful)
    console().print(table)
    for name, summary in summaries.items():
        print_line(f"{name}: {summary.n} answers; unscored {_share(summary)}: {_reasons(summary)}")
    print_line("; ".join(f"{definition.name}: {definition.rule}" for definition in DEFINITIONS))


def _share(summary: Summary) -> str:
    """How many judgements have no score, of the two of every answer."""
    n, n_unscored = 2 * summary.n, sum(sum(reasons.values()) for reasons in summary.unscored.values())
    return f"{n_unscored} of {n} judgements ({100 * n_unscored / n:.1f} %)"


def _reasons(summary: Summary) -> str:
    counts = [
        f"{rubric} {reason}: {count}"
        for rubric, reasons in summary.unscored.items()
        for reason, count in reasons.items()
    ]
    return ", ".join(counts) or "none"
