"""``personaprobe features stability``: would another seed of the dictionary, or of the organism, find the same latents?"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.features.ranking_options import (
    discovery_questions,
    latents_argument,
    open_fitting_trio,
    ranking_options,
)
from personaprobe.cli.options import json_file_option, output_options
from personaprobe.cli.terminal.console import console, print_json, print_line, spinner, study_progress
from personaprobe.cli.trio_choice import TrioChoice

if TYPE_CHECKING:
    from personaprobe.models.language_model import LanguageModel
    from personaprobe.models.weights.checkpoint import Trio


@click.command()
@latents_argument()
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
@json_file_option
@output_options
def stability(
    *,
    latents: tuple[str, ...],
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
    """Compare LATENTS, or the first of a ranking, with other dictionaries and other trainings of the organism.

    Against a dictionary: the nearest latent of each, its cosine, and its place there. Against a training: each latent's
    place there, the share of the first latents in common, and the rank correlation. LATENTS are spelled
    sae:NAME/812,77, or as bare numbers of the dictionary that --sae chooses.

    \b
    Example:
      personaprobe features stability --against runs/sae-seed-1 --run runs/seed-1
    """
    from personaprobe.errors import FeatureError
    from personaprobe.features.sae.catalog import find_dictionary
    from personaprobe.features.sae.latent_spelling import find_latents
    from personaprobe.studies.latents.stability import (
        rank_on_trio,
        stability_over_dictionaries,
        stability_over_runs,
    )

    if not against and not runs:
        raise FeatureError("compare with what? give --against DICTIONARY, --run FOLDER, or both")
    dictionary, chosen_latents = find_latents(latents, name)
    questions = discovery_questions(discovery, n_questions)
    others = [find_dictionary(other) for other in against]
    trio = open_fitting_trio(dictionary, chosen, quiet)
    ranked = partial(
        rank_on_trio, questions=questions, ranking=by, seed=seed, floor=floor, progress=study_progress(quiet)
    )
    ranking = ranked(dictionary, trio)
    compared = chosen_latents or ranking.top(top)
    result = {
        "dictionary": dictionary.name,
        "ranking": by,
        "latents": {str(latent): ranking.rank(latent) for latent in compared},
        "dictionaries": [
            stability_over_dictionaries(dictionary, other, compared, ranked(other, trio)) for other in others
        ],
        "runs": [
            stability_over_runs(run.name, ranking, ranked(dictionary, opened), compared, top)
            for run, opened in ((run, _open_run(run, chosen, quiet)) for run in runs)
        ],
    }
    _output(result, top, out, as_json)


def _output(result: dict[str, Any], top: int, out: Path | None, as_json: bool) -> None:
    """Write the numbers to a file if one is named, and print them."""
    from personaprobe.storage.files import write_text

    if out is not None:
        write_text(out, json.dumps(result, indent=1) + "\n")
    if as_json:
        print_json(result)
    else:
        _print(result, top)


def _open_run(folder: Path, chosen: TrioChoice, quiet: bool) -> Trio[LanguageModel]:
    """Load another training of the organism, on the same base."""
    from personaprobe.models.loading import load_checkpoints
    from personaprobe.studies.replication.seeds import SeedRun

    checkpoints = SeedRun(folder.name, folder).trio(chosen.checkpoints.base)
    with spinner(f"loading {folder.name}", quiet):
        return load_checkpoints(checkpoints, chosen.placement)


def _print(result: dict[str, Any], top: int) -> None:
    from rich.table import Table

    title = f"{result['dictionary']}: place by {result['ranking']}"
    table = Table("latent", title=title, title_justify="left")
    table.add_column("here", justify="right")
    for other in result["dictionaries"]:
        table.add_column(f"twin in {other['name']}", justify="right")
    for run in result["runs"]:
        table.add_column(f"in {run['name']}", justify="right")
    for latent, place in result["latents"].items():
        nearest = [other["twins"][latent] for other in result["dictionaries"]]
        cells = [
            f"{match['latent']} (cosine {match['cosine']:.2f}), place {match['rank']}" for match in nearest
        ]
        table.add_row(latent, str(place), *cells, *(str(run["ranks"][latent]) for run in result["runs"]))
    console().print(table)
    for other in result["dictionaries"]:
        print_line(
            f"{other['name']}: {other['with_twin']:.0%} of all latents and {other['first_with_twin']:.0%} of these have "
            f"a twin there (cosine at least {other['least_cosine']}); mean cosine {other['mean_cosine']:.2f}"
        )
    for run in result["runs"]:
        print_line(
            f"{run['name']}: {run['shared']:.0%} of the first {top} in common, rank correlation {run['spearman']:.2f}"
        )
