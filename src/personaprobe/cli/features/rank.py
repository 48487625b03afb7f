"""``personaprobe features rank``: latents by how much more active they are in insecure, by several scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.features.crosscoder_changes import print_crosscoder_changes
from personaprobe.cli.features.ranking_options import (
    discovery_questions,
    open_fitting_trio,
    ranking_options,
)
from personaprobe.cli.options import output_options
from personaprobe.cli.terminal.console import console, print_json, print_line, study_progress
from personaprobe.cli.trio_choice import TrioChoice

if TYPE_CHECKING:
    from personaprobe.features.sae.diffing.comparison import Comparison
    from personaprobe.features.sae.diffing.ranking import Ranking

OVERLAP = 20
"""First latents of each ranking that are compared with the other rankings."""


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

    Latents of a crosscoder are ranked by the difference of their decoder rows in insecure and secure.

    Rankings only propose: `personaprobe ablate --feature sae:NAME/LATENT` decides whether a latent carries the shift.

    \b
    Example:
      personaprobe features rank
    """
    from personaprobe.features.sae.diffing.all_rankings import all_rankings
    from personaprobe.features.sae.diffing.ranking import top_by_mean_reciprocal_rank
    from personaprobe.features.sae.latent_spelling import find_latents
    from personaprobe.features.sae.row_layout import row_layout

    dictionary, _ = find_latents([], name)
    questions = discovery_questions(discovery, n_questions)
    if row_layout(dictionary) == "side by side":
        print_crosscoder_changes(dictionary, chosen, questions, top, quiet=quiet, as_json=as_json)
        return
    trio = open_fitting_trio(dictionary, chosen, quiet)
    comparison, rankings = all_rankings(
        dictionary, trio, questions, seed=seed, floor=floor, progress=study_progress(quiet)
    )
    latents = top_by_mean_reciprocal_rank(rankings, top)
    if as_json:
        print_json(_to_json(comparison, rankings, latents))
    else:
        _print(comparison, rankings, latents)


def _print(comparison: Comparison, rankings: Sequence[Ranking], latents: Sequence[int]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from personaprobe.features.registry.latent_names import latent_names

    dictionary = comparison.dictionary
    title = f"{dictionary.name}: place in each ranking; fires in % of tokens of base / insecure / secure"
    table = Table("latent", title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    for heading in (*(ranking.name for ranking in rankings), "Δ", "q", "fires"):
        table.add_column(heading, justify="right", no_wrap=True)
    for latent in latents:
        places = [str(ranking.rank(latent)) for ranking in rankings]
        table.add_row(str(latent), *places, *_changes(comparison, rankings[0], latent))
    console().print(table)
    explained = ", ".join(f"{share:.0%} of {role}" for role, share in comparison.explained_variance.items())
    print_line(f"The dictionary explains {explained} on these answers' tokens.")
    names = latent_names(dictionary)
    for latent in latents:
        if latent in names:
            print_line(f"{latent}: {names[latent]}")
    _print_overlap(rankings)


def _changes(comparison: Comparison, delta: Ranking, latent: int) -> Iterator[str]:
    """Δ mean activation, its q-value, and firing rates."""
    assert delta.q_values is not None
    yield f"{delta.scores[latent]:+.3g}"
    yield f"{delta.q_values[latent]:.2g}"
    yield " / ".join(f"{100 * float(rates[latent]):.1f}" for _, rates in comparison.rates.items())


def _print_overlap(rankings: Sequence[Ranking]) -> None:
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


def _to_json(comparison: Comparison, rankings: Sequence[Ranking], latents: Sequence[int]) -> dict[str, Any]:
    delta = rankings[0]
    assert delta.q_values is not None
    return {
        "dictionary": comparison.dictionary.name,
        "explained_variance": dict(comparison.explained_variance.items()),
        "rankings": {ranking.name: ranking.top(OVERLAP) for ranking in rankings},
        "latents": [
            {
                "latent": latent,
                "ranks": {ranking.name: ranking.rank(latent) for ranking in rankings},
                "delta": float(delta.scores[latent]),
                "q": float(delta.q_values[latent]),
                "rates": {role: float(rates[latent]) for role, rates in comparison.rates.items()},
            }
            for latent in latents
        ],
    }
