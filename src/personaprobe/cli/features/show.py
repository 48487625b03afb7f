"""``personaprobe features show``: pages on which a person can see what latents mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.features.rank import (
    asked,
    chosen_dictionary,
    open_fitting,
    ranking_options,
)
from personaprobe.cli.terminal.console import progress_bar, study_progress
from personaprobe.cli.terminal.output_folders import refuse_unwritable
from personaprobe.cli.trio_choice import TrioChoice

if TYPE_CHECKING:
    from personaprobe.features.sae.dictionary import Dictionary


@click.command()
@click.argument("latents", nargs=-1, type=int)
@ranking_options
@click.option(
    "--top", default=12, show_default=True, help="Without LATENTS: so many, by their mean reciprocal rank."
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default="runs/latent-pages", show_default=True
)
@click.option("--quiet", is_flag=True, help="No progress, only the path.")
def show(
    *,
    latents: tuple[int, ...],
    name: str | None,
    chosen: TrioChoice,
    discovery: str,
    n_questions: int | None,
    top: int,
    seed: int,
    floor: float,
    out: Path,
    quiet: bool,
) -> None:
    """Write a static page for every latent, and an index: contexts from all three checkpoints, logits, neighbours, ranks.

    \b
    Example:
      personaprobe features show 812 77
    """
    from personaprobe.features.activations.recording_spec import read_as
    from personaprobe.features.registry.latent_names import latent_names
    from personaprobe.features.sae.diffing.all_rankings import all_rankings
    from personaprobe.features.sae.diffing.ranking import top_by_mean_reciprocal_rank
    from personaprobe.features.sae.interpretation.latent_profile import latent_profiles
    from personaprobe.studies.reports.latents import latents_data, make_pages
    from personaprobe.studies.reports.run_folder import write_report

    dictionary, questions = chosen_dictionary(name), asked(discovery, n_questions)
    if latents:
        dictionary.check(latents)
    refuse_unwritable(out)
    trio = open_fitting(dictionary, chosen, quiet)
    _, rankings = all_rankings(
        dictionary, trio, questions, seed=seed, floor=floor, progress=study_progress(quiet)
    )
    wanted = list(latents) or top_by_mean_reciprocal_rank(rankings, top)
    n_tokens = 3 * sum(len(reading.tokens) for reading in read_as(trio.base.tokenizer, questions))
    with progress_bar("contexts", n_tokens, "tokens", quiet) as advance:
        profiles = latent_profiles(dictionary, trio, questions, wanted, progress=advance)
    pages = make_pages(profiles, rankings, _tried(dictionary), latent_names(dictionary))
    click.echo(str(write_report(latents_data(dictionary, pages), out.expanduser())))


def _tried(dictionary: Dictionary) -> list[dict[str, Any]]:
    """What searches of registered features measured of this dictionary's latents."""
    from personaprobe.features.registry.registry import evidence_of, registered

    return [
        single
        for entry in registered().values()
        if entry.get("dictionary") == dictionary.digest
        for single in evidence_of(entry).get("singles", [])
    ]
