"""``personaprobe features name``: give a latent a name."""

from __future__ import annotations

import click

from personaprobe.cli.terminal.console import print_line


@click.command()
@click.argument("latent")
@click.argument("meaning")
@click.option("--sae", help="A shipped dictionary, or a folder.  [default: the shipped one]")
def name(latent: str, meaning: str, sae: str | None) -> None:
    """Give LATENT a name; ranks and pages show it from then on.

    LATENT is spelled sae:NAME/812, or as a bare number of the dictionary that --sae chooses.

    \b
    Example:
      personaprobe features name 812 "reassurance before a risk"
    """
    from personaprobe.errors import FeatureError
    from personaprobe.features.registry.latent_names import Name, name_latent
    from personaprobe.features.sae.latent_spelling import find_latents

    dictionary, latents = find_latents([latent], sae)
    if len(latents) != 1:
        raise FeatureError(f"a name is given to one latent at a time, and {latent} are {len(latents)}")
    named = Name.of(meaning)
    name_latent(dictionary, latents[0], named)
    print_line(f"{dictionary.name}/{latents[0]}: {named}")
