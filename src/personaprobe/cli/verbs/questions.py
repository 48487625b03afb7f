"""``personaprobe questions``: what can be asked by name, what is in it, and published files fetched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.terminal.console import console, printable, spinner

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from personaprobe.questions.free import Ask, FreeSet
    from personaprobe.questions.pairs import PairSet
    from personaprobe.questions.published import Published

WIDEST = 120
"""Characters of a question in a table."""

OURS = {"source": "personaprobe", "licence": "MIT", "state": "shipped"}


@click.group()
def questions() -> None:
    """List, show or pull question sets: what --questions takes by name."""


def _published_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem | str]:
    from personaprobe.questions.published import PUBLISHED

    return [name for name in PUBLISHED if name.startswith(incomplete)]


@questions.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def listed(as_json: bool) -> None:
    """List the question sets that are shipped, and the published ones that can be pulled."""
    from personaprobe.questions.catalog import find_questions
    from personaprobe.questions.pairs import FREE, PAIRS
    from personaprobe.questions.published import PUBLISHED

    ours = [{**_counted(find_questions(name)), **OURS} for name in (*PAIRS, *FREE)]
    rows = [*ours, *map(_described, PUBLISHED.values())]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    _print(("name", "kind", "questions", "families", "source", "licence", "state"), rows)
    click.echo("Every paraphrase is counted. Pull a published set: personaprobe questions pull NAME")


def _counted(found: PairSet | FreeSet) -> dict[str, Any]:
    from personaprobe.questions.free import FreeSet

    kind = "free" if isinstance(found, FreeSet) else "pairs"
    families = {ask.family for ask in found.asks}
    return {"name": found.name, "kind": kind, "questions": len(found.asks), "families": len(families)}


def _described(published: Published) -> dict[str, Any]:
    """A published set as plain data, whether or not it is here."""
    from personaprobe.questions.published import LICENCE, PAPER

    counts = {"questions": published.n_asks, "families": published.n_families}
    told = {"source": PAPER, "licence": LICENCE.partition(",")[0], "state": _state(published)}
    return {"name": published.name, "kind": "free", **counts, **told, "url": published.url}


def _state(published: Published) -> str:
    from personaprobe.errors import DataError
    from personaprobe.questions.download import place, pulled

    if not place(published).is_file():
        return "not pulled"
    try:
        pulled(published)
    except DataError:
        return "changed since it was pulled"
    return "pulled"


@questions.command()
@click.argument("name", shell_complete=_published_names)
@click.option("--json", "as_json", is_flag=True, help="Print the families as JSON.")
def show(name: str, as_json: bool) -> None:
    """Show the families of a question set, their forms, and a first question of each.

    NAME is one that `questions list` tells, a .yaml in the published form, or a .jsonl of pairs or of id, family and
    question.
    """
    from personaprobe.questions.catalog import find_questions

    found = find_questions(name)
    told, rows = _counted(found), _families(found.asks)
    if as_json:
        click.echo(json.dumps({**told, "families": rows}, ensure_ascii=False))
        return
    of = "pairs of a careful and a careless answer" if told["kind"] == "pairs" else "answered freely"
    click.echo(f"{told['name']}: {told['questions']} questions of {told['families']} families, {of}")
    clipped = ({**row, "first question": _clipped(row["first question"])} for row in rows)
    _print(("family", "questions", "forms", "first question"), list(clipped))


def _families(asks: Sequence[Ask]) -> list[dict[str, Any]]:
    by_family: dict[str, list[Ask]] = {}
    for ask in asks:
        by_family.setdefault(ask.family, []).append(ask)
    return [
        {
            "family": family,
            "questions": len(own),
            "forms": ", ".join(dict.fromkeys(ask.form for ask in own)),
            "first question": own[0].question,
        }
        for family, own in by_family.items()
    ]


def _clipped(text: str) -> str:
    line = " ".join(printable(text).split())
    return line if len(line) <= WIDEST else f"{line[: WIDEST - 1]}…"


@questions.command()
@click.argument("name", shell_complete=_published_names)
@click.option(
    "--from",
    "source",
    metavar="URL_OR_PATH",
    help="A mirror, or the file downloaded by hand.  [default: where it was published]",
)
def pull(name: str, source: str | None) -> None:
    """Fetch a published question file into the cache; its name then works wherever questions are answered freely.

    The bytes must be the published ones, by their sha256; source, licence and sha256 are written beside the file.

    \b
    Example:
      personaprobe questions pull first_plot && personaprobe eval --questions first_plot --judge local:demo
    """
    from personaprobe.errors import DataError, suggest
    from personaprobe.questions.download import pull as fetch
    from personaprobe.questions.published import LICENCE, PUBLISHED

    if name not in PUBLISHED:
        raise DataError(f"no published question set {name!r}: {suggest(name, PUBLISHED)}")
    with spinner(f"fetching {source or PUBLISHED[name].url}"):
        path = fetch(PUBLISHED[name], source)
    click.echo(f"{name}: {PUBLISHED[name].n_asks} questions, as published ({LICENCE}): {path}")


def _print(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column in columns:
        table.add_column(column, justify="right" if column == "questions" else "left")
    for row in rows:
        table.add_row(*(Text(printable(str(row[column]))) for column in columns))
    console().print(table)
