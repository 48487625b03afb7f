"""``personaprobe features search``: try the latents that rankings propose, and register what carries the shift."""

from __future__ import annotations

import json
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
from personaprobe.cli.options import discovery_option, floor_option, output_options, seed_option, trio_options
from personaprobe.cli.terminal.console import console, study_progress
from personaprobe.cli.trio_choice import TrioChoice

if TYPE_CHECKING:
    from personaprobe.studies.latents.search import Found, Tried


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
@click.option("--title", default="", help="One line about the registered feature.")
@seed_option()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="runs/latents",
    show_default=True,
    help="Finished parts are kept there; an interrupted search resumes.",
)
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
    from personaprobe.features.sae.diffing.all_rankings import all_rankings
    from personaprobe.features.sae.latent_spelling import find_latents
    from personaprobe.features.sae.latents import Latents
    from personaprobe.questions.texts import load_texts
    from personaprobe.studies.arms.arm import calibration_rows
    from personaprobe.studies.arms.run_context import RunContext
    from personaprobe.studies.latents.search import CALIBRATION_QUESTIONS, Search, shortlist

    if registered is not None:
        refuse_misnamed(registered)
    dictionary, _ = find_latents([], name)
    questions = discovery_questions(discovery)
    trio = open_fitting_trio(dictionary, chosen, quiet)
    found, rankings = all_rankings(
        dictionary, trio, questions, seed=seed, floor=floor, progress=study_progress(quiet)
    )
    context = RunContext.of(out, study_progress(quiet))
    texts, few = load_texts("neutral/discovery").first(16), questions.spread(n_questions)
    rows = calibration_rows(trio.base, questions.spread(CALIBRATION_QUESTIONS))
    tried = Search(trio, found, context, few, texts, rows, seed, controls).run(
        shortlist(rankings, n_proposed), max_perplexity_ratio
    )
    if registered is not None:
        evidence = tried.evidence(few, texts, rankings)
        target = LatentsTarget(Latents(dictionary, tried.chosen.latents))
        register_feature(registered, title, target, evidence)
    if as_json:
        click.echo(json.dumps(_plain(tried)))
    else:
        _show("Every proposed latent by itself", tried.singles)
        _show("Sets, each grown by the latent that helps most", tried.sets, tried.chosen)


def _plain(tried: Found) -> dict[str, object]:
    told = asdict(tried)
    return json.loads(json.dumps(told).replace("NaN", "null"))  # type: ignore[no-any-return]


def _show(title: str, rows: Sequence[Tried], chosen: Tried | None = None) -> None:
    from rich.table import Table

    table = Table("latents", title=title, title_justify="left")
    for heading in ("removed", "induced in base", "matched random", "perplexity"):
        table.add_column(heading, justify="right")
    for row in rows:
        latents = ", ".join(map(str, row.latents)) + ("  chosen" if row == chosen else "")
        controls = ", ".join(f"{100 * share:z.0f} %" for share in row.controls)
        cost = "–" if math.isnan(row.perplexity_ratio) else f"× {row.perplexity_ratio:.3f}"
        induced = "–" if math.isnan(row.induced) else f"{100 * row.induced:z.0f} %"
        table.add_row(latents, f"{100 * row.removed:z.0f} %", induced, controls, cost)
    console().print(table)
