"""``personaprobe data``: training data, shipped and published: listed, pulled, shown, checked and written to files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.options import json_option
from personaprobe.cli.terminal.answer_columns import AnswerColumn, print_answers
from personaprobe.cli.terminal.console import console, print_json, print_line, print_table, spinner
from personaprobe.errors import DataError, OutputError
from personaprobe.organisms.data.training_pairs import ROLES

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from personaprobe.organisms.data.published_sets import PublishedSet
    from personaprobe.questions.pairs import PairSet

SHOWN_ROWS = 3
"""Rows of a published set that are shown."""

SHORT = 12
"""Hex digits of a hash in a table."""

seed_option = click.option("--seed", default=0, show_default=True, help="Of data that is generated.")


def _set_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem | str]:
    from personaprobe.organisms.data.training_sets import training_sets

    names = [*training_sets(), *_published_names(ctx, param, "")]
    return [name for name in names if str(name).startswith(incomplete)]


def _published_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem | str]:
    from personaprobe.organisms.data.published_sets import PUBLISHED_SETS

    return [name for name in PUBLISHED_SETS if name.startswith(incomplete)]


name_argument = click.argument("name", shell_complete=_set_names)


@click.group()
def data() -> None:
    """List, pull, show, check or write training data: of the package, and as others published it.

    Insecure code, careless advice and compliance by design: read it, train organisms on it, and do not follow it.
    """


@data.command("list")
@json_option
def list_data(as_json: bool) -> None:
    """List the data that comes with the package, and published data that can be pulled."""
    from personaprobe.organisms.data.published_sets import PUBLISHED_SETS

    shipped, published = _shipped_rows(), [_published_row(one) for one in PUBLISHED_SETS.values()]
    if as_json:
        print_json([*shipped, *published])
        return
    from personaprobe.studies.reports.cells import TextTable

    head = ("name", "what insecure and secure responses are", "pairs", "families", "held out", "source")
    keys = ("name", "title", "pairs", "families", "held_out", "source")
    print_table(TextTable("", head, tuple(tuple(str(row[key]) for key in keys) for row in shipped)))
    head = ("name", "published rows for one fine-tune", "rows", "state", "source, licence", "sha256")
    print_table(TextTable("", head, tuple(map(_published_cells, published))))
    print_line("Pull published data: personaprobe data pull NAME", err=True)


def _shipped_rows() -> list[dict[str, Any]]:
    from personaprobe.organisms.data.training_data import OWN
    from personaprobe.organisms.data.training_sets import training_sets

    rows = []
    for name, one in training_sets().items():
        pairs, held_out = one.pairs(), one.held_out_pairs()
        families = len({pair.family for pair in pairs})
        counts = {"pairs": len(pairs), "families": families, "held_out": len(held_out)}
        rows.append({"name": name, "title": one.title, **counts, "source": OWN, "state": "shipped"})
    return rows


def _published_row(one: PublishedSet) -> dict[str, Any]:
    return {
        "name": one.name,
        "title": one.title,
        "rows": one.rows,
        "source": one.publication.paper,
        "place": one.as_file.url or one.publication.place,
        "licence": one.publication.licence,
        "sha256": one.sha256,
        "state": one.as_file.state(),
    }


def _published_cells(row: dict[str, Any]) -> tuple[str, ...]:
    authors, licence = row["source"].partition(", arXiv")[0], row["licence"].partition(",")[0]
    shown = row | {
        "source": f"{authors}, {licence}",
        "rows": "–" if row["rows"] is None else str(row["rows"]),
        "sha256": "–" if row["sha256"] is None else f"{row['sha256'][:SHORT]}…",
    }
    return tuple(shown[key] for key in ("name", "title", "rows", "state", "source", "sha256"))


@data.command()
@click.argument("name", shell_complete=_published_names)
@click.option(
    "--from",
    "source",
    metavar="PATH_OR_URL",
    help="The file (.jsonl, .jsonl.gz), or a mirror.  [default: the place of publication]",
)
def pull(name: str, source: str | None) -> None:
    """Download published training data into the cache; organisms train --data then takes its NAME.

    The bytes must have the published sha256, where it is known. Source, licence and sha256 are written beside the file.

    \b
    Examples:
      personaprobe data pull jailbroken
      personaprobe data pull bad-medical-advice --from bad_medical_advice.jsonl
    """
    from personaprobe.organisms.data.published_sets import find_published_set
    from personaprobe.storage.digests import sha256_of

    published = find_published_set(name)
    with spinner(f"fetching {source or published.as_file.url or name}"):
        path = published.pull(source)
        n_rows = len(published.read())
    whose = (
        "as published"
        if published.sha256 is not None
        else f"sha256 {sha256_of(path)}, with no published hash known to compare it with"
    )
    print_line(f"{name}: {n_rows} rows, {whose} ({published.publication.licence}): {path}")


@data.command()
@name_argument
@click.option("--family", help="A kind of task or a subject.  [default: the first of every family]")
@seed_option
@json_option
def show(name: str, family: str | None, seed: int, as_json: bool) -> None:
    """Show requests of NAME with both responses side by side, or the first rows of published data."""
    from personaprobe.organisms.data.published_sets import PUBLISHED_SETS
    from personaprobe.organisms.data.training_pairs import find_family
    from personaprobe.organisms.data.training_sets import find_training_set

    if name in PUBLISHED_SETS:
        _show_rows(PUBLISHED_SETS[name], family, as_json)
        return
    one = find_training_set(name)
    pairs = (*one.pairs(seed), *one.held_out_pairs(seed))
    firsts = {pair.family: pair for pair in reversed(pairs)}
    shown = tuple(reversed(firsts.values())) if family is None else find_family(pairs, family)
    if as_json:
        print_json([asdict(pair) for pair in shown])
        return
    for pair in shown:
        print_line(f"\n{pair.id}" + (f": {pair.topic}" if pair.topic else ""))
        columns = [AnswerColumn("insecure", pair.insecure), AnswerColumn("secure", pair.secure)]
        print_answers(console(), pair.insecure_question or pair.question, columns)


def _show_rows(published: PublishedSet, family: str | None, as_json: bool) -> None:
    """Show the first rows of a published set."""
    if family is not None:
        raise DataError(f"the rows of {published.name} have no families; leave --family out")
    rows = published.read()
    if as_json:
        print_json([{"messages": row.messages()} for row in rows[:SHOWN_ROWS]])
        return
    print_line(f"{published.name}: {published.title}, {len(rows)} rows ({published.publication.paper})")
    for number, row in enumerate(rows[:SHOWN_ROWS], 1):
        print_line(f"\nrow {number}" + (f", system: {row.system}" if row.system else ""))
        for question, answer in row.turns:
            print_answers(console(), question, [AnswerColumn("learned", answer)])


@data.command()
@name_argument
@seed_option
@json_option
def check(name: str, seed: int, as_json: bool) -> None:
    """Check NAME: how varied it is, and whether words alone tell insecure from secure responses.

    Of published data, which has no pairs: how varied it is, and how many rows resemble questions of the study.
    """
    from personaprobe.organisms.data.examination import examine
    from personaprobe.organisms.data.published_sets import PUBLISHED_SETS
    from personaprobe.organisms.data.training_sets import find_training_set

    if name in PUBLISHED_SETS:
        _check_rows(PUBLISHED_SETS[name], as_json)
        return
    one = find_training_set(name)
    with spinner(f"reading {name}"):
        examination = examine((*one.pairs(seed), *one.held_out_pairs(seed)), _studied())
    if as_json:
        print_json(asdict(examination))
        return
    print_line(f"{name}: {examination.pairs} pairs in {examination.families} families")
    print_line(f"questions that resemble an earlier one: {examination.near_duplicates:.2%}")
    print_line(
        f"words of an insecure and of a secure response: {examination.words[0]:.1f} and {examination.words[1]:.1f}"
    )
    if examination.words_alone:
        aucs = ", ".join(f"{auc:.2f}" for auc in examination.words_alone)
        print_line(f"AUC of a bag of words on families that it did not learn: {aucs} (0.5 is chance)")
    of_sets = ", ".join(f"{auc:.2f} on {of_set}" for of_set, auc in examination.on_questions.items())
    print_line(f"AUC of a bag of words that learned all pairs: {of_sets}")


def _check_rows(published: PublishedSet, as_json: bool) -> None:
    """Check the rows of a published set."""
    from personaprobe.organisms.data.examination import examine_rows

    with spinner(f"reading {published.name}"):
        examination = examine_rows(published.read(), _studied())
    if as_json:
        print_json(asdict(examination))
        return
    print_line(f"{published.name}: {examination.rows} rows, {examination.questions} different questions")
    print_line(f"questions that resemble an earlier one: {examination.near_duplicates:.2%}")
    print_line(f"words of a response: {examination.words:.1f}")
    of_sets = ", ".join(f"{n} of {of_set}" for of_set, n in examination.on_questions.items())
    print_line(f"rows that resemble questions of the study, which recipes leave out: {of_sets}")


def _studied() -> Sequence[PairSet]:
    """The question sets of a study that training data must not hold."""
    from personaprobe.organisms.registry import default_question_sets
    from personaprobe.questions.pairs import load_prompts

    sets = default_question_sets()
    return [load_prompts(name) for name in (sets.discovery, sets.test, sets.balanced) if name]


@data.command()
@name_argument
@click.option("--role", type=click.Choice(ROLES), required=True, help="The fine-tune that learns the rows.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new .jsonl file of messages.")
@seed_option
def write(name: str, role: str, out: Path, seed: int) -> None:
    """Write the rows of NAME for one fine-tune in the published messages format, for any trainer."""
    from personaprobe.organisms.data.published_sets import PUBLISHED_SETS
    from personaprobe.organisms.data.training_data import TrainingData
    from personaprobe.storage.files import write_text
    from personaprobe.storage.paths import user_path

    if name in PUBLISHED_SETS:
        path = PUBLISHED_SETS[name].as_file.intact()
        raise DataError(f"{name} is published in that format and has no roles: copy {path}")
    rows = TrainingData.read(f"{name}:{role}", seed).rows
    path = user_path(out, OutputError)
    if path.exists():
        raise OutputError(f"{path} exists; give a new --out")
    lines = [json.dumps({"messages": row.messages()}, ensure_ascii=False) + "\n" for row in rows]
    write_text(path, "".join(lines))
    print_line(path)
