"""``personaprobe features show``: pages on which a person can see what latents mean."""

from __future__ import annotations

from pathlib import Path

import click

from personaprobe.cli.features.ranking_options import (
    discovery_questions,
    latents_argument,
    open_fitting_trio,
    ranking_options,
)
from personaprobe.cli.terminal.console import print_line, study_progress
from personaprobe.cli.terminal.output_folders import refuse_unwritable
from personaprobe.cli.trio_choice import TrioChoice
from personaprobe.errors import OutputError
from personaprobe.storage.paths import user_path


@click.command()
@latents_argument()
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
    latents: tuple[str, ...],
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

    LATENTS are spelled sae:NAME/812,77, or as bare numbers of the dictionary that --sae chooses.

    \b
    Example:
      personaprobe features show 812 77
    """
    from personaprobe.features.registry.latent_names import latent_names
    from personaprobe.features.sae.diffing.all_rankings import all_rankings, n_tokens
    from personaprobe.features.sae.diffing.ranking import top_by_mean_reciprocal_rank
    from personaprobe.features.sae.interpretation.latent_profile import latent_profiles
    from personaprobe.features.sae.latent_spelling import find_latents
    from personaprobe.studies.latents.effects import registered_effects
    from personaprobe.studies.reports.latents import latents_data, make_pages
    from personaprobe.studies.reports.run_folder import write_report

    dictionary, chosen_latents = find_latents(latents, name)
    questions = discovery_questions(discovery, n_questions)
    refuse_unwritable(out)
    trio = open_fitting_trio(dictionary, chosen, quiet)
    progress = study_progress(quiet)
    _, rankings = all_rankings(dictionary, trio, questions, seed=seed, floor=floor, progress=progress)
    shown = chosen_latents or top_by_mean_reciprocal_rank(rankings, top)
    with progress("contexts", len(trio.roles) * n_tokens(trio, questions), "tokens") as advance:
        profiles = latent_profiles(dictionary, trio, questions, shown, progress=advance)
    pages = make_pages(profiles, rankings, registered_effects(dictionary), latent_names(dictionary))
    print_line(write_report(latents_data(dictionary, pages), user_path(out, OutputError)))
