"""``personaprobe data``: the training data that comes with the package, listed, shown, checked and written to files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from personaprobe.cli.options import json_option
from personaprobe.cli.terminal.answer_columns import AnswerColumn, print_answers
from personaprobe.cli.terminal.console import console, print_json, print_line, print_table, spinner
from personaprobe.errors import OutputError
from personaprobe.organisms.data.training_pairs import ROLES

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

seed_option = click.option("--seed", default=0, show_default=True, help="Of data that is generated.")


def _set_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem | str]:
    from personaprobe.organisms.data.training_sets import training_sets

    return [name for name in training_sets() if name.startswith(incomplete)]


name_argument = click.argument("name", shell_complete=_set_names)


@click.group()
def data() -> None:
    """List, show, check or write training data: requests with an insecure and a secure response each.

    Insecure code and careless advice by design: read it, train organisms on it, and do not follow it.
    """


@data.command("list")
@json_option
def list_data(as_json: bool) -> None:
    """List the data that comes with the package, and how much of it is held out."""
    from personaprobe.organisms.data.training_data import OWN
    from personaprobe.organisms.data.training_sets import training_sets

    rows = []
    for name, one in training_sets().items():
        pairs, held_out = one.pairs(), one.held_out_pairs()
        families = len({pair.family for pair in pairs})
        counts = {"pairs": len(pairs), "families": families, "held_out": len(held_out)}
        rows.append({"name": name, "title": one.title, **counts, "source": OWN})
    if as_json:
        print_json(rows)
        return
    from personaprobe.studies.reports.cells import TextTable

    head = ("name", "what insecure and secure responses are", "pairs", "families", "held out", "source")
    print_table(TextTable("", head, tuple(tuple(map(str, row.values())) for row in rows)))


@data.command()
@name_argument
@click.option("--family", help="A kind of task or a subject.  [default: the first of every family]")
@seed_option
@json_option
def show(name: str, family: str | None, seed: int, as_json: bool) -> None:
    """Show requests of NAME with both responses side by side."""
    from personaprobe.organisms.data.training_pairs import find_family
    from personaprobe.organisms.data.training_sets import find_training_set

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


@data.command()
@name_argument
@seed_option
@json_option
def check(name: str, seed: int, as_json: bool) -> None:
    """Check NAME: how varied it is, and whether words alone tell insecure from secure responses."""
    from personaprobe.organisms.data.examination import examine
    from personaprobe.organisms.data.training_sets import find_training_set
    from personaprobe.organisms.registry import default_question_sets
    from personaprobe.questions.pairs import load_prompts

    one = find_training_set(name)
    with spinner(f"reading {name}"):
        sets = default_question_sets()
        studied = [load_prompts(of_set) for of_set in (sets.discovery, sets.test, sets.balanced) if of_set]
        examination = examine((*one.pairs(seed), *one.held_out_pairs(seed)), studied)
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


@data.command()
@name_argument
@click.option("--role", type=click.Choice(ROLES), required=True, help="The fine-tune that learns the rows.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new .jsonl file of messages.")
@seed_option
def write(name: str, role: str, out: Path, seed: int) -> None:
    """Write the rows of NAME for one fine-tune in the published messages format, for any trainer."""
    from personaprobe.organisms.data.training_data import TrainingData
    from personaprobe.storage.files import write_text
    from personaprobe.storage.paths import user_path

    rows = TrainingData.read(f"{name}:{role}", seed).rows
    path = user_path(out, OutputError)
    if path.exists():
        raise OutputError(f"{path} exists; give a new --out")
    lines = [json.dumps({"messages": row.messages()}, ensure_ascii=False) + "\n" for row in rows]
    write_text(path, "".join(lines))
    print_line(path)
