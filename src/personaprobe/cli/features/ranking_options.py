"""Options that the verbs of ``personaprobe features`` share: the dictionary, the trio, the questions, and latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from personaprobe.cli.options import (
    discovery_option,
    floor_option,
    seed_option,
    trio_options,
    with_options,
)
from personaprobe.cli.trio_choice import TrioChoice, open_trio

if TYPE_CHECKING:
    from personaprobe.features.sae.dictionary import Dictionary
    from personaprobe.models.language_model import LanguageModel
    from personaprobe.models.weights.checkpoint import Trio
    from personaprobe.questions.pairs import PairSet

F = TypeVar("F", bound=Callable[..., Any])

sae_option = click.option(
    "--sae", "name", help="A shipped dictionary, a folder, or saelens:RELEASE:ID.  [default: the shipped one]"
)


def latents_argument(*, required: bool = False) -> Callable[[F], F]:
    """The argument ``LATENTS``: spellings such as ``sae:NAME/812,77``, or bare numbers."""
    return click.argument("latents", nargs=-1, required=required)


def ranking_options(command: F) -> F:
    """Give a command the options that determine a ranking: dictionary, trio, questions, seed and floor."""
    return with_options(
        command,
        (
            sae_option,
            trio_options,
            discovery_option,
            click.option(
                "--questions",
                "n_questions",
                type=click.IntRange(min=2),
                help="Only so many of them.  [default: all]",
            ),
            seed_option("Of the permutations."),
            floor_option,
        ),
    )


def discovery_questions(discovery: str, n: int | None = None) -> PairSet:
    """The discovery questions: all of a set, or ``n`` of them, spread evenly over families."""
    from personaprobe.questions.pairs import load_prompts

    questions = load_prompts(discovery)
    return questions if n is None else questions.spread(n)


def open_fitting_trio(dictionary: Dictionary, chosen: TrioChoice, quiet: bool) -> Trio[LanguageModel]:
    """Load the chosen trio, and refuse a dictionary of another model."""
    from personaprobe.features.sae.quality import refuse_unfit_dictionary

    trio = open_trio(chosen, quiet)
    refuse_unfit_dictionary(dictionary, trio.base)
    return trio
