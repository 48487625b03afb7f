"""``personaprobe features name``: say what a latent means."""

from __future__ import annotations

import click

from personaprobe.cli.features.rank import chosen_dictionary


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
    from personaprobe.features.registry.latent_names import Name, name_latent

    dictionary, named = chosen_dictionary(sae), Name.of(meaning)
    name_latent(dictionary, latent, named)
    click.echo(f"{dictionary.name}/{latent}: {named}")
