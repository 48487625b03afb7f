"""Tables of a crosscoder's latents by how much more they belong to insecure than to secure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from personaprobe.cli.terminal.console import console, print_json, spinner
from personaprobe.cli.trio_choice import TrioChoice, open_trio

if TYPE_CHECKING:
    from personaprobe.features.sae.crosscoder import Crosscoder
    from personaprobe.features.sae.dictionary import Dictionary
    from personaprobe.features.sae.diffing.ranking import Ranking
    from personaprobe.questions.pairs import PairSet


def print_crosscoder_changes(
    dictionary: Dictionary, chosen: TrioChoice, questions: PairSet, top: int, *, quiet: bool, as_json: bool
) -> None:
    """Rank a crosscoder's latents on all tokens of some questions and answers, and print the first."""
    from personaprobe.features.activations.recording_spec import tokenize
    from personaprobe.features.sae.crosscoder import Crosscoder
    from personaprobe.features.sae.diffing.crosscoder_ranking import rank_crosscoder_latents
    from personaprobe.features.sae.quality import token_activations

    crosscoder, trio = Crosscoder(dictionary), open_trio(chosen, quiet)
    crosscoder.refuse_unfit(trio.base)
    with spinner("reading", quiet):
        texts = [reading.tokens for reading in tokenize(trio.base.tokenizer, questions)]
        rows = trio.map(lambda model: token_activations(model, dictionary.site, texts))
        rankings = rank_crosscoder_latents(crosscoder, rows)
        rates = (crosscoder.encode(rows) > 0).float().mean(0).tolist()
    shown = rankings[0].top(top)
    if as_json:
        print_json(_to_json(crosscoder, rankings, rates, shown))
    else:
        _print(crosscoder, rankings, rates, shown)


def _to_json(
    crosscoder: Crosscoder, rankings: Sequence[Ranking], rates: Sequence[float], shown: Sequence[int]
) -> Mapping[str, object]:
    return {
        "dictionary": crosscoder.dictionary.name,
        "latents": [
            {
                "latent": latent,
                "ranks": {ranking.name: ranking.rank(latent) for ranking in rankings},
                "scores": {ranking.name: float(ranking.scores[latent]) for ranking in rankings},
                "norms": {role: float(norms[latent]) for role, norms in crosscoder.norms.items()},
                "rate": rates[latent],
            }
            for latent in shown
        ],
    }


def _print(
    crosscoder: Crosscoder, rankings: Sequence[Ranking], rates: Sequence[float], shown: Sequence[int]
) -> None:
    from rich.table import Table

    table = Table("latent", title=f"{crosscoder.dictionary.name}: score and place", title_justify="left")
    for ranking in rankings:
        table.add_column(ranking.name, justify="right")
    for heading in ("fires", *(f"norm in {role}" for role, _ in crosscoder.norms.items())):
        table.add_column(heading, justify="right")
    for latent in shown:
        table.add_row(str(latent), *_cells(crosscoder, rankings, rates[latent], latent))
    console().print(table)


def _cells(crosscoder: Crosscoder, rankings: Sequence[Ranking], rate: float, latent: int) -> Iterator[str]:
    yield from (f"{ranking.scores[latent]:+.3g} ({ranking.rank(latent)})" for ranking in rankings)
    yield f"{100 * rate:.1f} %"
    yield from (f"{float(norms[latent]):.2f}" for _, norms in crosscoder.norms.items())
