"""``personaprobe features explain``: a model proposes names of latents, and the names are scored."""

from __future__ import annotations

from dataclasses import asdict

import click

from personaprobe.cli.features.ranking_options import (
    discovery_questions,
    latents_argument,
    open_fitting_trio,
    sae_option,
)
from personaprobe.cli.options import discovery_option, output_options, seed_option, trio_options
from personaprobe.cli.terminal.console import print_json, print_line, progress_bar
from personaprobe.cli.trio_choice import TrioChoice


@click.command()
@latents_argument(required=True)
@click.option(
    "--by",
    "chat_model_name",
    required=True,
    help="Who proposes and judges: local:MODEL (demo, a folder, a Hugging Face id) or openai:MODEL@URL.",
)
@click.option(
    "--contexts",
    "n_contexts",
    type=click.IntRange(min=2),
    default=20,
    show_default=True,
    help="Strongest of each checkpoint; half propose, half score.",
)
@sae_option
@trio_options
@discovery_option
@seed_option("Of the contexts without activity.")
@output_options
def explain(
    *,
    latents: tuple[str, ...],
    chat_model_name: str,
    n_contexts: int,
    name: str | None,
    chosen: TrioChoice,
    discovery: str,
    seed: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Let a model name LATENTS from contexts in which they are active, and score the names on held-out contexts.

    The score is detection: given the name alone, the model judges in which contexts the latent is active; 0.5 is chance.
    A name given by hand is kept, and scored. LATENTS are spelled sae:NAME/812,77, or as bare numbers of the dictionary
    that --sae chooses.

    \b
    Example:
      personaprobe features explain 812 77 --by openai:gpt-4.1-mini@https://api.openai.com/v1
    """
    from personaprobe.features.sae.interpretation.latent_profile import latent_profiles
    from personaprobe.features.sae.latent_spelling import find_latents
    from personaprobe.models.chat_models import find_chat_model
    from personaprobe.studies.latents.naming import name_latents

    dictionary, chosen_latents = find_latents(latents, name)
    questions = discovery_questions(discovery)
    chat_model = find_chat_model(chat_model_name, chosen.placement)
    trio = open_fitting_trio(dictionary, chosen, quiet)
    with progress_bar("contexts", 0, "tokens", quiet) as advance:
        profiles = latent_profiles(
            dictionary, trio, questions, chosen_latents, n_contexts=n_contexts, seed=seed, progress=advance
        )
    with progress_bar("names", len(profiles), "latents", quiet) as advance:
        names = name_latents(dictionary, profiles, chat_model, advance)
    if as_json:
        print_json({str(latent): asdict(named) for latent, named in names.items()})
    else:
        for latent, named in names.items():
            print_line(f"{dictionary.name}/{latent}: {named}")
