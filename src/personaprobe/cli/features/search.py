"""``personaprobe features search``: try the latents that rankings propose, and register those that carry the shift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from personaprobe.cli.features.ranking_options import (
    discovery_questions,
    open_fitting_trio,
    sae_option,
)
from personaprobe.cli.options import (
    discovery_option,
    floor_option,
    folder_option,
    output_options,
    seed_option,
    title_option,
    trio_options,
)
from personaprobe.cli.terminal.console import console, print_json, study_progress
from personaprobe.cli.trio_choice import TrioChoice

if TYPE_CHECKING:
    from personaprobe.studies.latents.search_result import Candidate


@click.command()
@sae_option
@trio_options
@discovery_option
@click.option("--questions", "n_questions", default=24, show_default=True, help="A latent is tried on.")
@click.option(
    "--shortlist", "n_proposed", default=64, show_default=True, help="Latents from the tops of all rankings."
)
@click.option("--controls", default=1, show_default=True, help="Matched random latents beside each.")
@click.option("--max-perplexity-ratio", default=1.03, show_default=True, help="What a chosen set may cost.")
@click.option("--register", "registered", help="Save the chosen set and everything tried under this name.")
@title_option
@seed_option()
@folder_option("--out", "runs/latents", "Finished parts are kept there; an interrupted search resumes.")
@floor_option
@output_options
def search(
    *,
    name: str | None,
    chosen: TrioChoice,
    discovery: str,
    n_questions: int,
    n_proposed: int,
    controls: int,
    max_perplexity_ratio: float,
    registered: str | None,
    title: str,
    seed: int,
    floor: float,
    out: Path,
    quiet: bool,
    as_json: bool,
) -> None:
    """Ablate in insecure, and steer into base, every latent that a ranking proposes; then grow a set of at most ten.

    Discovery questions only: `personaprobe ablate --feature NAME` judges what is registered, once, on the test families.
    """
    from personaprobe.effects.targets.feature import register_feature
    from personaprobe.effects.targets.latents import LatentsTarget
    from personaprobe.features.registry.registry import refuse_misnamed
    from personaprobe.features.sae.latent_spelling import find_latents
    from personaprobe.features.sae.latents import Latents
    from personaprobe.studies.arms.run_context import RunContext
    from personaprobe.studies.latents.search import SearchOptions, search_latents

    if registered is not None:
        refuse_misnamed(registered)
    dictionary, _ = find_latents([], name)
    questions = discovery_questions(discovery)
    trio = open_fitting_trio(dictionary, chosen, quiet)
    options = SearchOptions(n_questions, n_proposed, controls, max_perplexity_ratio, seed, floor)
    context = RunContext.of(out, study_progress(quiet))
    result, evidence = search_latents(dictionary, trio, questions, context, options)
    if registered is not None:
        target = LatentsTarget(Latents(dictionary, result.chosen.latents))
        register_feature(registered, title, target, evidence)
    if as_json:
        print_json(asdict(result))
    else:
        _print("Every proposed latent by itself", result.singles)
        _print("Sets, each grown by the latent that helps most", result.sets, result.chosen)


def _print(title: str, candidates: Sequence[Candidate], chosen: Candidate | None = None) -> None:
    from rich.table import Table

    table = Table("latents", title=title, title_justify="left")
    for heading in ("removed", "induced in base", "matched random", "perplexity"):
        table.add_column(heading, justify="right")
    for row in candidates:
        latents = ", ".join(map(str, row.latents)) + ("  chosen" if row == chosen else "")
        controls = ", ".join(f"{100 * share:z.0f} %" for share in row.controls)
        cost = "–" if math.isnan(row.perplexity_ratio) else f"× {row.perplexity_ratio:.3f}"
        induced = "–" if math.isnan(row.induced) else f"{100 * row.induced:z.0f} %"
        table.add_row(latents, f"{100 * row.removed:z.0f} %", induced, controls, cost)
    console().print(table)
