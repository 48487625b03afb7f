"""``personaprobe features rank``: latents by how much more they do in insecure, in several ways that may disagree."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from personaprobe.cli.features.crosscoder_changes import tell_changes
from personaprobe.cli.options import (
    discovery_option,
    floor_option,
    output_options,
    seed_option,
    trio_options,
    with_options,
)
from personaprobe.cli.terminal.console import console, printable, study_progress
from personaprobe.cli.trio_choice import TrioChoice, open_trio

if TYPE_CHECKING:
    from personaprobe.features.sae.dictionary import Dictionary
    from personaprobe.features.sae.diffing.comparison import Comparison
    from personaprobe.features.sae.diffing.ranking import Ranking
    from personaprobe.models.language_model import LanguageModel
    from personaprobe.models.weights.checkpoint import Trio
    from personaprobe.questions.pairs import PairSet

F = TypeVar("F", bound=Callable[..., Any])

sae_option = click.option(
    "--sae", "name", help="A shipped dictionary, a folder, or saelens:RELEASE:ID.  [default: the shipped one]"
)

OVERLAP = 20
"""Latents from the top of each ranking that are compared."""


def ranking_options(command: F) -> F:
    """Give a command the options that choose what is ranked: dictionary, trio, questions, and the permutations' seed."""
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


@click.command()
@ranking_options
@click.option("--top", default=12, show_default=True, help="Latents to show, by their mean reciprocal rank.")
@output_options
def rank(
    *,
    name: str | None,
    chosen: TrioChoice,
    discovery: str,
    n_questions: int | None,
    top: int,
    seed: int,
    floor: float,
    quiet: bool,
    as_json: bool,
) -> None:
    """Rank the latents of a dictionary by what changed from secure, or base, to insecure.

    A crosscoder's latents are ranked by what its decoder rows in insecure and secure differ by.

    Rankings only propose: whether a latent carries the shift, `personaprobe ablate --feature sae:NAME/LATENT` decides.

    \b
    Example:
      personaprobe features rank
    """
    from personaprobe.features.sae.diffing.all_rankings import all_rankings
    from personaprobe.features.sae.diffing.ranking import top_by_mean_reciprocal_rank
    from personaprobe.features.sae.row_layout import row_layout

    dictionary, questions = chosen_dictionary(name), asked(discovery, n_questions)
    if row_layout(dictionary) == "side by side":
        tell_changes(dictionary, chosen, questions, top, quiet=quiet, as_json=as_json)
        return
    trio = open_fitting(dictionary, chosen, quiet)
    found, rankings = all_rankings(
        dictionary, trio, questions, seed=seed, floor=floor, progress=study_progress(quiet)
    )
    shown = top_by_mean_reciprocal_rank(rankings, top)
    if as_json:
        click.echo(json.dumps(_plain(found, rankings, shown)))
    else:
        _show(found, rankings, shown)


def chosen_dictionary(name: str | None) -> Dictionary:
    """The dictionary a user named, or the shipped one of single activations, where there is but one."""
    from personaprobe.features.sae.catalog import default_dictionary, find_dictionary

    return default_dictionary() if name is None else find_dictionary(name)


def asked(discovery: str, n_questions: int | None) -> PairSet:
    """The questions latents are ranked on: all of a set, or so many, families dealt evenly."""
    from personaprobe.questions.pairs import load_prompts

    questions = load_prompts(discovery)
    return questions if n_questions is None else questions.spread(n_questions)


def open_fitting(dictionary: Dictionary, chosen: TrioChoice, quiet: bool) -> Trio[LanguageModel]:
    """Load the chosen trio, refusing a dictionary of another model."""
    from personaprobe.features.sae.quality import refuse_unfit_dictionary

    trio = open_trio(chosen, quiet)
    refuse_unfit_dictionary(dictionary, trio.base)
    return trio


def _show(found: Comparison, rankings: Sequence[Ranking], shown: Sequence[int]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from personaprobe.features.registry.latent_names import latent_names

    title = (
        f"{found.dictionary.name}: place in each ranking; fires in % of tokens of base / insecure / secure"
    )
    table = Table("latent", title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    for heading in (*(ranking.name for ranking in rankings), "Δ", "q", "fires"):
        table.add_column(heading, justify="right", no_wrap=True)
    for latent in shown:
        cells = [*(str(r.rank(latent)) for r in rankings), *_facts(found, rankings[0], latent)]
        table.add_row(str(latent), *cells)
    console().print(table)
    explained = ", ".join(f"{share:.0%} of {role}" for role, share in found.explained_variance.items())
    click.echo(f"The dictionary explains {explained} on these answers' tokens.")
    names = latent_names(found.dictionary)
    for latent in shown:
        if latent in names:
            click.echo(printable(f"{latent}: {names[latent]}"))
    _show_overlap(rankings)


def _facts(found: Comparison, delta: Ranking, latent: int) -> Iterator[str]:
    assert delta.q_values is not None
    yield f"{delta.scores[latent]:+.3g}"
    yield f"{delta.q_values[latent]:.2g}"
    yield " / ".join(f"{100 * float(rates[latent]):.1f}" for _, rates in found.rates.items())


def _show_overlap(rankings: Sequence[Ranking]) -> None:
    from rich.table import Table

    from personaprobe.features.sae.diffing.ranking import ranking_overlap

    shared = ranking_overlap(rankings, OVERLAP)
    table = Table(
        "",
        title=f"Share of the first {OVERLAP} latents that two rankings have in common",
        title_justify="left",
    )
    for ranking in rankings:
        table.add_column(ranking.name, justify="right")
    for row in rankings:
        table.add_row(row.name, *(f"{100 * shared[row.name, column.name]:.0f} %" for column in rankings))
    console().print(table)


def _plain(found: Comparison, rankings: Sequence[Ranking], shown: Sequence[int]) -> dict[str, Any]:
    delta = rankings[0]
    assert delta.q_values is not None
    return {
        "dictionary": found.dictionary.name,
        "explained_variance": dict(found.explained_variance.items()),
        "rankings": {ranking.name: ranking.top(OVERLAP) for ranking in rankings},
        "latents": [
            {
                "latent": latent,
                "ranks": {ranking.name: ranking.rank(latent) for ranking in rankings},
                "delta": float(delta.scores[latent]),
                "q": float(delta.q_values[latent]),
                "rates": {role: float(rates[latent]) for role, rates in found.rates.items()},
            }
            for latent in shown
        ],
    }
