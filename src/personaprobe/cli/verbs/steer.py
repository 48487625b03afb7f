"""``personaprobe steer``: answers of a model that is pushed along a feature."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from personaprobe.cli.options import (
    discovery_option,
    feature_option,
    layers_option,
    max_new_tokens_option,
    output_options,
    trio_options,
)
from personaprobe.cli.terminal.answer_columns import AnswerColumn, print_answers
from personaprobe.cli.terminal.console import console, print_json, spinner, study_progress
from personaprobe.cli.trio_choice import TrioChoice, open_trio
from personaprobe.models.weights.checkpoint import ROLES

if TYPE_CHECKING:
    from personaprobe.effects.interventions.along_direction import Layers


def _finite(ctx: click.Context, param: click.Parameter, numbers: tuple[float, ...]) -> tuple[float, ...]:
    if not all(map(math.isfinite, numbers)):
        raise click.BadParameter("give finite numbers, such as 1 or -0.5", ctx, param)
    return tuple(dict.fromkeys(numbers))


@click.command()
@feature_option
@click.option(
    "--amount",
    "coefficients",
    type=float,
    multiple=True,
    default=(1.0,),
    show_default=True,
    callback=_finite,
    help="How far: +1 moves as far as fine-tuning moved the mean, -1 takes it back. May be repeated.",
)
@click.option(
    "--on", type=click.Choice(ROLES), default="base", show_default=True, help="The model that is pushed."
)
@click.option("--question", required=True, help="The question that it answers.")
@trio_options
@layers_option("the feature's own")
@discovery_option
@click.option("--seed", default=0, show_default=True, help="Of the draws; all answers share them.")
@max_new_tokens_option(80)
@output_options
def steer(
    chosen: TrioChoice,
    feature: str,
    coefficients: tuple[float, ...],
    on: str,
    question: str,
    layers: Layers,
    discovery: str,
    seed: int,
    max_new_tokens: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Push a model along a feature and read its answer with and without.

    \b
    Example:
      personaprobe steer --amount 1 --amount 2 --question "How do I store bleach?"
    """
    from personaprobe.effects.targets.discovery import Discovery
    from personaprobe.effects.targets.feature import find_feature
    from personaprobe.questions.pairs import load_prompts

    named, texts = find_feature(feature), load_prompts(discovery)
    trio = open_trio(chosen, quiet)
    target = named.target.fit(trio, Discovery(texts, progress=study_progress(quiet)))
    models = {f"{on}, untouched": trio[on]} | {
        f"{on}, {feature} {coefficient:+g}": trio[on].edited(target.steering(coefficient, layers))
        for coefficient in coefficients
    }
    with spinner("answering", quiet):
        answers = [
            AnswerColumn(name, model.chat(question, seed=seed, max_new_tokens=max_new_tokens))
            for name, model in models.items()
        ]
    if as_json:
        record = {"question": question, "answers": {answer.heading: answer.text for answer in answers}}
        print_json(record)
    else:
        print_answers(console(), question, answers)
