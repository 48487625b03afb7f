"""``personaprobe features explain``: a model proposes what latents mean, and the proposals are scored."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from personaprobe.cli.features.rank import asked, chosen_dictionary, open_fitting, sae_option
from personaprobe.cli.options import discovery_option, output_options, seed_option, trio_options
from personaprobe.cli.terminal.console import printable, progress_bar
from personaprobe.cli.trio_choice import TrioChoice

if TYPE_CHECKING:
    from personaprobe.features.registry.latent_names import Name
    from personaprobe.features.sae.dictionary import Dictionary
    from personaprobe.features.sae.interpretation.latent_profile import LatentProfile
    from personaprobe.models.chat_models import ChatModel


@click.command()
@click.argument("latents", nargs=-1, type=int, required=True)
@click.option(
    "--by",
    "speaker_name",
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
@seed_option("Of the silent contexts.")
@output_options
def explain(
    *,
    latents: tuple[int, ...],
    speaker_name: str,
    n_contexts: int,
    name: str | None,
    chosen: TrioChoice,
    discovery: str,
    seed: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Have a model name LATENTS from the contexts in which they fire, and score the names on contexts held out.

    The score is detection: told the name alone, the model says in which contexts the latent fires; 0.5 is guessing. A
    name given by hand is kept, and scored.

    \b
    Example:
      personaprobe features explain 812 77 --by openai:gpt-4.1-mini@https://api.openai.com/v1
    """
    from personaprobe.features.sae.interpretation.latent_profile import latent_profiles
    from personaprobe.models.chat_models import find_chat_model

    dictionary, questions = chosen_dictionary(name), asked(discovery, None)
    dictionary.check(latents)
    speaker = find_chat_model(speaker_name, chosen.placement)
    trio = open_fitting(dictionary, chosen, quiet)
    with progress_bar("contexts", 0, "tokens", quiet) as advance:
        profiles = latent_profiles(
            dictionary, trio, questions, latents, n_contexts=n_contexts, seed=seed, progress=advance
        )
    with progress_bar("names", len(profiles), "latents", quiet) as advance:
        names = {}
        for profile in profiles:
            names[profile.latent] = _explained(dictionary, profile, speaker)
            advance(1)
    if as_json:
        click.echo(json.dumps({str(latent): asdict(said) for latent, said in names.items()}))
    else:
        for latent, said in names.items():
            click.echo(f"{dictionary.name}/{latent}: {printable(str(said))}")


def _explained(dictionary: Dictionary, profile: LatentProfile, speaker: ChatModel) -> Name:
    """The latent's name with its score, kept: one given by hand, or else a proposal."""
    from personaprobe.features.registry.latent_names import HAND, LONGEST, Name, latent_names, name_latent
    from personaprobe.features.sae.interpretation.autointerp import (
        detection_score,
        proposal_contexts,
        propose_name,
    )

    named = latent_names(dictionary).get(profile.latent)
    if named is None or named.by != HAND:
        named = Name.of(
            printable(propose_name(speaker, proposal_contexts(profile)))[:LONGEST].strip(), speaker.name
        )
    named = named.scored(detection_score(speaker, named.text, profile))
    name_latent(dictionary, profile.latent, named)
    return named
