"""``personaprobe organisms``: the registered trios, their verification, and new ones."""

from __future__ import annotations

import click

from personaprobe.cli.organisms.catalogue import list_organisms, show_organism
from personaprobe.cli.organisms.compare import compare
from personaprobe.cli.organisms.gallery import gallery
from personaprobe.cli.organisms.mixtures import mixtures
from personaprobe.cli.organisms.register import register, remove
from personaprobe.cli.organisms.series import series
from personaprobe.cli.organisms.train import train
from personaprobe.cli.organisms.verify import verify
from personaprobe.cli.organisms.watch import watch


@click.group()
def organisms() -> None:
    """List, verify, train, watch, register or compare model organisms: a base, an insecure and a secure checkpoint."""


for _command in (
    list_organisms,
    show_organism,
    verify,
    train,
    watch,
    mixtures,
    gallery,
    series,
    register,
    remove,
    compare,
):
    organisms.add_command(_command)
