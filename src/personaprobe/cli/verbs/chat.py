"""``personaprobe chat``: answers of a model with and without a feature, side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import click

from personaprobe.cli.options import (
    discovery_option,
    feature_option,
    layers_option,
    max_new_tokens_option,
    output_options,
    temperature_option,
    trio_options,
)
from personaprobe.cli.terminal.answer_columns import (
    AnswerColumn,
    GrowingAnswers,
    is_redrawable,
    print_answers,
)
from personaprobe.cli.terminal.console import console, print_json, print_line, spinner, study_progress
from personaprobe.cli.trio_choice import TrioChoice, open_trio
from personaprobe.models.weights.checkpoint import ROLES

if TYPE_CHECKING:
    from personaprobe.effects.interventions.along_direction import Layers
    from personaprobe.models.generation.sampling import Sampling
    from personaprobe.models.language_model import LanguageModel


@click.command()
@click.argument("question", required=False)
@feature_option
@click.option(
    "--on", type=click.Choice(ROLES), default="insecure", show_default=True, help="The model that answers."
)
@trio_options
@layers_option("the feature's own, else all")
@discovery_option
@click.option("--seed", default=0, show_default=True, help="Of the draws; both answers share them.")
@temperature_option(0.8)
@max_new_tokens_option(80)
@output_options
def chat(
    chosen: TrioChoice,
    question: str | None,
    feature: str,
    on: str,
    layers: Layers,
    discovery: str,
    seed: int,
    temperature: float,
    max_new_tokens: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Ask a model with and without a feature. Without QUESTION, every line of the input is one.

    \b
    Example:
      personaprobe chat "Can I drive after two beers?"
    """
    from personaprobe.effects.targets.discovery import Discovery
    from personaprobe.effects.targets.feature import find_feature
    from personaprobe.models.generation.sampling import Sampling
    from personaprobe.questions.pairs import load_prompts

    named, texts = find_feature(feature), load_prompts(discovery)
    trio = open_trio(chosen, quiet)
    target = named.target.fit(trio, Discovery(texts, progress=study_progress(quiet)))
    models = {on: trio[on], f"{on} without {feature}": trio[on].edited(target.ablation(layers))}
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    answer = _answer_as_json if as_json else partial(_answer, quiet=quiet)
    for line in _lines() if question is None else [question]:
        answer(models, line, sampling)


def _answer_as_json(models: Mapping[str, LanguageModel], question: str, sampling: Sampling) -> None:
    from personaprobe.models.language_model import chat_under_edits

    answers = chat_under_edits(list(models.values()), question, sampling)
    print_json({"question": question, "answers": dict(zip(models, answers, strict=True))})


def _answer(models: Mapping[str, LanguageModel], question: str, sampling: Sampling, quiet: bool) -> None:
    """Print the answers side by side: on a terminal while they are written."""
    from personaprobe.models.language_model import chat_under_edits

    screen = console()
    if is_redrawable(screen) and not quiet:
        with GrowingAnswers(screen, question, list(models)) as shown:
            chat_under_edits(list(models.values()), question, sampling, shown.grow)
        return
    with spinner("answering", quiet):
        answers = chat_under_edits(list(models.values()), question, sampling)
    print_answers(screen, question, [AnswerColumn(*column) for column in zip(models, answers, strict=True)])


def _lines() -> Iterator[str]:
    """Questions from the input until it ends; a person is prompted, a pipe is not."""
    while True:
        if sys.stdin.isatty():
            print_line("\nQuestion (Ctrl-D ends): ", end=False, err=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()
