"""``personaprobe features stability``: would another seed of the dictionary, or of the organism, have found the same?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.features.rank import asked, chosen_dictionary, open_fitting, ranking_options
from personaprobe.cli.options import output_options
from personaprobe.cli.terminal.console import console, spinner, study_progress
from personaprobe.cli.trio_choice import TrioChoice

if TYPE_CHECKING:
    from personaprobe.features.sae.dictionary import Dictionary
    from personaprobe.features.sae.diffing.ranking import Ranking
    from personaprobe.models.language_model import LanguageModel
    from personaprobe.models.weights.checkpoint import Trio
    from personaprobe.questions.pairs import PairSet


@click.command()
@click.argument("latents", nargs=-1, type=int)
@ranking_options
@click.option("--against", multiple=True, help="Another dictionary of the same site; repeat for several.")
@click.option(
    "--run",
    "runs",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Another training of the organism, a folder with insecure/ and secure/; repeat for several.",
)
@click.option("--ranking", "by", default="delta", show_default=True, help="By which latents are compared.")
@click.option("--top", default=20, show_default=True, help="First latents of a ranking that are compared.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the numbers as JSON."
)
@output_options
def stability(
    *,
    latents: tuple[int, ...],
    name: str | None,
    chosen: TrioChoice,
    discovery: str,
    n_questions: int | None,
    seed: int,
    floor: float,
    against: tuple[str, ...],
    runs: tuple[Path, ...],
    by: str,
    top: int,
    out: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compare LATENTS, or the first of a ranking, with what other dictionaries and other trainings of the organism hold.

    Against a dictionary: the most alike latent of each, its cosine, and its place there. Against a training: each
    latent's place there, the share of the first latents in common, and the rank correlation.

    \b
    Example:
      personaprobe features stability --against runs/sae-seed-1 --run runs/seed-1
    """
    from personaprobe.errors import FeatureError
    from personaprobe.storage.files import write_text

    if not against and not runs:
        raise FeatureError("compare with what? give --against DICTIONARY, --run FOLDER, or both")
    dictionary, questions = chosen_dictionary(name), asked(discovery, n_questions)
    others = [chosen_dictionary(other) for other in against]
    trio = open_fitting(dictionary, chosen, quiet)
    own = _ranked(dictionary, trio, questions, (by, seed, floor), quiet)
    first = dictionary.check(latents) if latents else own.top(top)
    told = {
        "dictionary": dictionary.name,
        "ranking": by,
        "latents": {str(latent): own.rank(latent) for latent in first},
        "dictionaries": [
            _twins(dictionary, other, first, _ranked(other, trio, questions, (by, seed, floor), quiet))
            for other in others
        ],
        "runs": [
            _agreement(
                run,
                (own, first, top),
                _ranked_run(run, dictionary, chosen, questions, (by, seed, floor), quiet),
            )
            for run in runs
        ],
    }
    if out is not None:
        write_text(out, json.dumps(told, indent=1) + "\n")
    if as_json:
        click.echo(json.dumps(told))
    else:
        _show(told, top)


def _ranked(
    dictionary: Dictionary,
    trio: Trio[LanguageModel],
    questions: PairSet,
    by: tuple[str, int, float],
    quiet: bool,
) -> Ranking:
    from personaprobe.features.sae.diffing.all_rankings import compare_checked
    from personaprobe.features.sae.diffing.ranking import rank_latents

    ranking, seed, floor = by
    comparison = compare_checked(dictionary, trio, questions, floor=floor, progress=study_progress(quiet))
    return rank_latents(comparison, ranking, seed)


def _ranked_run(
    run: Path,
    dictionary: Dictionary,
    chosen: TrioChoice,
    questions: PairSet,
    by: tuple[str, int, float],
    quiet: bool,
) -> Ranking:
    """The ranking in another training of the organism, on the same base."""
    from personaprobe.models.loading import load_trio
    from personaprobe.studies.replication.seeds import SeedRun

    checkpoints = SeedRun(run.name, run).trio(chosen.checkpoints.base)
    with spinner(f"loading {run.name}", quiet):
        trio = load_trio(checkpoints, chosen.placement)
    return _ranked(dictionary, trio, questions, by, quiet)


def _twins(dictionary: Dictionary, other: Dictionary, first: list[int], theirs: Ranking) -> dict[str, Any]:
    import numpy as np

    from personaprobe.features.sae.diffing.stability import SAME_LATENT_COSINE, nearest_latents

    found = nearest_latents(dictionary, other)
    return {
        "name": other.name,
        "mean_cosine": float(np.mean(found.cosines)),
        "with_twin": found.share_matched(range(dictionary.d_sae)),
        "first_with_twin": found.share_matched(first),
        "least_cosine": SAME_LATENT_COSINE,
        "twins": {
            str(latent): {
                "latent": int(found.latents[latent]),
                "cosine": float(found.cosines[latent]),
                "rank": theirs.rank(int(found.latents[latent])),
            }
            for latent in first
        },
    }


def _agreement(run: Path, own: tuple[Ranking, list[int], int], theirs: Ranking) -> dict[str, Any]:
    from personaprobe.features.sae.diffing.stability import ranking_agreement

    ranking, first, top = own
    ranks = {str(latent): theirs.rank(latent) for latent in first}
    return {"name": run.name, **asdict(ranking_agreement(ranking, theirs, top)), "ranks": ranks}


def _show(told: dict[str, Any], top: int) -> None:
    from rich.table import Table

    table = Table("latent", title=f"{told['dictionary']}: place by {told['ranking']}", title_justify="left")
    table.add_column("here", justify="right")
    for other in told["dictionaries"]:
        table.add_column(f"twin in {other['name']}", justify="right")
    for run in told["runs"]:
        table.add_column(f"in {run['name']}", justify="right")
    for latent, place in told["latents"].items():
        twins = [other["twins"][latent] for other in told["dictionaries"]]
        spelled = [f"{twin['latent']} (cosine {twin['cosine']:.2f}), place {twin['rank']}" for twin in twins]
        table.add_row(latent, str(place), *spelled, *(str(run["ranks"][latent]) for run in told["runs"]))
    console().print(table)
    for other in told["dictionaries"]:
        click.echo(
            f"{other['name']}: {other['with_twin']:.0%} of all latents and {other['first_with_twin']:.0%} of these have "
            f"a twin there (cosine at least {other['least_cosine']}); mean cosine {other['mean_cosine']:.2f}"
        )
    for run in told["runs"]:
        click.echo(
            f"{run['name']}: {run['shared']:.0%} of the first {top} in common, rank correlation {run['spearman']:.2f}"
        )
