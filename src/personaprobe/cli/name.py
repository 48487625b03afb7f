"""``personaprobe features name``: say what a latent means."""

from __future__ import annotations

import click

from personaprobe.cli.rank import only_shipped


@click.command()
@click.argument("latent", type=int)
@click.argument("meaning")
@click.option("--sae", help="A shipped dictionary, or a folder.  [default: the shipped one]")
def name(latent: int, meaning: str, sae: str | None) -> None:
    """Give LATENT a name; ranks and pages show it from then on.

    \b
    Example:
      personaprobe features name 812 "reassurance before a risk"
    """
    from personaprobe.features.naming import name_latent
    from personaprobe.features.sae.shelf import find_dictionary

    dictionary = find_dictionary(sae or only_shipped())
    name_latent(dictionary, latent, meaning)
    click.echo(f"{dictionary.name}/{latent}: {' '.join(meaning.split())}")
