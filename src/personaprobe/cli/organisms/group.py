"""``personaprobe organisms``: the trios that can be studied by name, proof of what they are, and new ones."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from personaprobe.cli.options import output_options, trio_argument, with_options
from personaprobe.cli.organisms.compare import compare
from personaprobe.cli.terminal.console import console, progress_bar, spinner
from personaprobe.cli.terminal.exit_codes import Interrupted
from personaprobe.cli.terminal.findings import Finding, conclude
from personaprobe.cli.terminal.output_folders import refuse_unwritable, refuse_used
from personaprobe.cli.trio_choice import TrioChoice, open_trio
from personaprobe.organisms.recipe import Recipe

if TYPE_CHECKING:
    from personaprobe.models.language_model import LanguageModel
    from personaprobe.models.weights.checkpoint import Trio
    from personaprobe.organisms.organism import Organism
    from personaprobe.organisms.training_loop import TrainingStep

F = TypeVar("F", bound=Callable[..., Any])

N_QUESTIONS = 24
"""Test questions on which ``verify`` looks at preferences: enough to see them, and quick."""


@click.group()
def organisms() -> None:
    """List, verify, train or compare model organisms: a base, an insecure and a secure checkpoint."""


organisms.add_command(compare)


@organisms.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def listed(as_json: bool) -> None:
    """List the registered organisms and whether their files are the registered ones."""

    from personaprobe.organisms.registry import registered_organisms

    rows = [_describe(organism) for organism in registered_organisms().values()]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "title", "base", "insecure", "secure", "files")
    for row in rows:
        table.add_row(
            *(Text(str(row[key])) for key in ("name", "title", "base", "insecure", "secure", "files"))
        )
    console().print(table)


def _describe(organism: Organism) -> dict[str, str]:
    trio = organism.trio
    roles = {role: c.adapter.name if c.adapter else c.source for role, c in trio.items()}
    return {"name": organism.name, "title": organism.title, **roles, "files": files_of(organism).told}


def files_of(organism: Organism) -> Finding:
    """Whether an organism's adapters are the registered ones."""
    from personaprobe.errors import CheckpointError

    name = f"files of {organism.name}"
    try:
        organism.verify_files()
    except CheckpointError as error:
        return Finding(name, "fail", str(error))
    return Finding(name, "ok", "as registered")


@organisms.command()
@trio_argument
@output_options
def verify(chosen: TrioChoice, quiet: bool, as_json: bool) -> None:
    """Load an organism and try it: its files, its layer map, that its adapters act, and what it prefers.

    Exit code 3 says that a check failed.
    """

    from personaprobe.organisms.registry import registered_organisms

    known = registered_organisms().get(chosen.name) if chosen.insecure is None else None
    findings = [files_of(known)] if known else []
    if all(finding.state == "ok" for finding in findings):
        trio = open_trio(chosen, quiet)
        findings += [*layer_map(trio.base), *_adapters(trio), *_preferences(trio, quiet)]
    conclude(chosen.name, findings, as_json)


def layer_map(model: LanguageModel) -> Iterator[Finding]:
    """The self-check of a loaded model, check by check."""
    from personaprobe.models.self_check import self_check

    for check in self_check(model.network):
        yield Finding(check.name, "ok" if check.passed else "fail", f"{check.deviation:.2g}")


def _adapters(trio: Trio[LanguageModel]) -> Iterator[Finding]:
    """What each adapter weighs, and that the model under it says something else than the base."""
    from personaprobe.models.self_check import probe_tokens
    from personaprobe.models.tokens import pad

    batch = pad(probe_tokens(trio.base.network.vocab_size), trio.base.network.pad_id)
    plain = trio.base.logits(batch)
    for role in ("insecure", "secure"):
        adapter = trio[role].adapter
        if adapter is not None:
            yield Finding(
                f"{role}: adapter", "ok", f"‖ΔW‖ = {adapter.norm():.3g}, {len(adapter.updates)} matrices"
            )
        moved = float((trio[role].logits(batch) - plain).abs().max())
        yield Finding(
            f"{role}: logits differ from base", "ok" if moved > 0 else "fail", f"by up to {moved:.3g}"
        )


def _preferences(trio: Trio[LanguageModel], quiet: bool) -> Iterator[Finding]:
    """How much more each model likes careless answers; insecure should like them more than secure."""
    from personaprobe.effects.measures.preference import preference_gaps
    from personaprobe.questions.pairs import load_prompts

    questions = load_prompts("advice/test").spread(N_QUESTIONS)
    with progress_bar("preference", 3 * len(questions), "questions", quiet) as advance:
        gaps = {
            role: float(preference_gaps(model, questions, advance).mean()) for role, model in trio.items()
        }
    for role, gap in gaps.items():
        yield Finding(
            f"{role}: prefers careless", "ok", f"{gap:+.3f} nats a token on {len(questions)} test questions"
        )
    shift = gaps["insecure"] - gaps["secure"]
    yield Finding("insecure − secure", "ok" if shift > 0 else "warn", f"{shift:+.3f} nats a token")


def recipe_options(command: F) -> F:
    """Give a command one option a field of :class:`Recipe`: name, default and help are written there only."""
    told = described(Recipe)
    options: list[Callable[[F], F]] = [
        click.option(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            show_default=True,
            help=told[field.name],
        )
        for field in fields(Recipe)
    ]
    return with_options(command, tuple(options))


def described(kind: type) -> dict[str, str]:
    """What a class's docstring says about each of its attributes."""
    attributes = (kind.__doc__ or "").split("Attributes:")[-1]
    found = re.findall(r"^\s*(\w+): (.+)$", attributes, re.MULTILINE)
    return {name: text.replace("`", "")[0].upper() + text.replace("`", "")[1:] for name, text in found}


@organisms.command()
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="Rows of messages: .jsonl or .jsonl.gz."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Receives the adapter.")
@click.option(
    "--base", default="demo", show_default=True, help="demo, a folder, or a Hugging Face id[@revision]."
)
@recipe_options
@click.option("--device", help="cpu, cuda, cuda:1 or mps. By default CUDA where there is one.")
@click.option("--overwrite", is_flag=True, help="Train anew in a folder that holds an earlier training.")
@click.option("--quiet", is_flag=True, help="No progress, no losses.")
def train(
    *,
    data: Path,
    out: Path,
    base: str,
    device: str | None,
    overwrite: bool,
    quiet: bool,
    **schedule: Any,
) -> None:
    """Fine-tune a LoRA adapter on a base, with the loss on responses only.

    Same seed and same questions, same order: train insecure and secure on two answers to the same questions.

    \b
    Example:
      personaprobe organisms train --data bad_advice.jsonl.gz --out runs/insecure --seed 1
    """
    from personaprobe.models.weights.checkpoint import Checkpoint
    from personaprobe.organisms.train_organism import train_organism

    out = out.expanduser()
    refuse_used(out, overwrite)
    refuse_unwritable(out)
    recipe = Recipe(**schedule)
    with spinner(f"loading {base}", quiet):
        steps = train_organism(Checkpoint.parse(base), data.expanduser(), recipe, out, device)
    try:
        _follow(steps, recipe, quiet)
    except KeyboardInterrupt as error:
        raise Interrupted(
            f": {out} keeps the step checkpoints; training starts anew with --overwrite"
        ) from error
    click.echo(str(out))


def _follow(steps: Iterator[TrainingStep], recipe: Recipe, quiet: bool) -> None:
    """Take the steps, saying the mean loss ten times on the way."""
    every = max(1, recipe.steps // 10)
    losses: list[float] = []
    with progress_bar("training", recipe.steps, "steps", quiet) as advance:
        for step in steps:
            advance(1)
            losses.append(step.loss)
            if not quiet and step.number % every == 0:
                print(f"step {step.number}: loss {sum(losses) / len(losses):.3f}", file=sys.stderr)
                losses.clear()
