"""``personaprobe questions``: list and show question sets, and download published ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.terminal.console import console, print_json, print_line, spinner, styled

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from personaprobe.questions.catalog import FamilySummary

MAX_QUESTION_WIDTH = 120
"""Characters of a question in a table."""


@click.group()
def questions() -> None:
    """List, show or pull question sets: the names that --questions takes."""


def _published_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem | str]:
    from personaprobe.questions.published import PUBLISHED

    return [name for name in PUBLISHED if name.startswith(incomplete)]


@questions.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def list_sets(as_json: bool) -> None:
    """List the shipped question sets, and the published ones that can be pulled."""
    from personaprobe.questions.catalog import catalog

    rows = [entry.to_dict() for entry in catalog()]
    if as_json:
        print_json(rows)
        return
    _print(("name", "kind", "questions", "families", "source", "licence", "state"), rows)
    print_line("Every paraphrase is counted. Pull a published set: personaprobe questions pull NAME")


@questions.command()
@click.argument("name", shell_complete=_published_names)
@click.option("--json", "as_json", is_flag=True, help="Print the families as JSON.")
def show(name: str, as_json: bool) -> None:
    """Show the families of a question set, their forms, and the first question of each.

    NAME is one from `questions list`, a .yaml in the published form, or a .jsonl of pairs or of id, family and question.
    """
    from personaprobe.questions.catalog import family_summaries, find_questions, kind_of

    question_set = find_questions(name)
    kind, families = kind_of(question_set), family_summaries(question_set.prompts)
    n_questions = len(question_set.prompts)
    rows = [_row(family) for family in families]
    if as_json:
        record = {"name": question_set.name, "kind": kind, "questions": n_questions, "families": rows}
        print_json(record)
        return
    description = "pairs of a careful and a careless answer" if kind == "pairs" else "answered freely"
    print_line(f"{question_set.name}: {n_questions} questions of {len(families)} families, {description}")
    clipped = [{**row, "first question": _clipped(row["first question"])} for row in rows]
    _print(("family", "questions", "forms", "first question"), clipped)


def _row(family: FamilySummary) -> dict[str, Any]:
    return {
        "family": family.family,
        "questions": family.questions,
        "forms": ", ".join(family.forms),
        "first question": family.first_question,
    }


def _clipped(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_QUESTION_WIDTH else f"{line[: MAX_QUESTION_WIDTH - 1]}…"


@questions.command()
@click.argument("name", shell_complete=_published_names)
@click.option(
    "--from",
    "source",
    metavar="URL_OR_PATH",
    help="A mirror, or the file downloaded by hand.  [default: the place of publication]",
)
def pull(name: str, source: str | None) -> None:
    """Download a published question file into the cache; --questions then takes its name.

    The bytes must have the published sha256. Source, licence and sha256 are written beside the file.

    \b
    Example:
      personaprobe questions pull first_plot && personaprobe eval --questions first_plot --judge local:demo
    """
    from personaprobe.questions.catalog import find_published
    from personaprobe.questions.download import download
    from personaprobe.questions.published import LICENCE

    published = find_published(name)
    with spinner(f"fetching {source or published.url}"):
        path = download(published, source)
    print_line(f"{name}: {published.n_prompts} questions, as published ({LICENCE}): {path}")


def _print(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table()
    for column in columns:
        table.add_column(column, justify="right" if column == "questions" else "left")
    for row in rows:
        table.add_row(*(styled(str(row[column])) for column in columns))
    console().print(table)
