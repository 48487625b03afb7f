"""Tables of a dictionary's quality on base, insecure and secure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from personaprobe.cli.terminal.console import console, print_json, print_line

if TYPE_CHECKING:
    from rich.table import Table

    from personaprobe.features.sae.dictionary import Dictionary
    from personaprobe.features.sae.quality import MeasuredQuality, Quality

ENOUGH_FOR_DEAD = 100_000
"""Number of tokens from which a latent that is never active counts as dead."""

COLUMNS = (
    ("explained variance", "explained_variance", "{:.3f}"),
    ("L0", "l0", "{:.1f}"),
    ("silent", "dead", "{:.1%}"),
    ("dense", "dense", "{:.1%}"),
    ("loss", "loss", "{:.3f}"),
    ("loss, reconstructed", "loss_reconstructed", "{:.3f}"),
    ("loss recovered", "loss_recovered", "{:.1%}"),
)
"""Columns of the quality table: heading, attribute, format."""


def print_joint_quality(
    dictionary: Dictionary, quality: Mapping[str, Mapping[str, float]], as_json: bool
) -> None:
    """Print a line per kind of row of a crosscoder, or of a dictionary of differences."""
    if as_json:
        print_json({**_identity(dictionary), "quality": quality})
        return
    print_line(dictionary)
    for role, values in quality.items():
        print_line(f"{role}: explained variance {values['explained_variance']:.3f}, L0 {values['l0']:.1f}")


def print_quality(dictionary: Dictionary, measured: Mapping[str, MeasuredQuality], as_json: bool) -> None:
    """Print a row per checkpoint, and the histogram of firing rates."""
    from personaprobe.features.sae.trio_quality import quality_as_json

    if as_json:
        print_json({**_identity(dictionary), "quality": quality_as_json(measured)})
        return
    from rich.table import Table

    n_tokens = min(report.quality.n_tokens for report in measured.values())
    table = Table(
        "checkpoint",
        title=str(dictionary),
        title_justify="left",
        caption=_caption(n_tokens),
        caption_justify="left",
    )
    for heading, _, _ in COLUMNS:
        table.add_column(heading, justify="right")
    for role, report in measured.items():
        table.add_row(role, *_cells(report.quality))
    console().print(table)
    console().print(_rate_table(measured))


def _identity(dictionary: Dictionary) -> dict[str, object]:
    return {"name": dictionary.name, "site": str(dictionary.site), "d_sae": dictionary.d_sae}


def _caption(n_tokens: int) -> str:
    """The meaning of ``silent`` on a sample of this size."""
    meaning = f"silent: fires on none of these {n_tokens:,} tokens"
    if n_tokens < ENOUGH_FOR_DEAD:
        return f"{meaning}, which are too few to call a latent dead (give --data and --tokens {ENOUGH_FOR_DEAD:,})"
    return f"{meaning}: dead"


def _rate_table(measured: Mapping[str, MeasuredQuality]) -> Table:
    from rich.table import Table

    from personaprobe.features.sae.quality import RATE_EDGES

    table = Table("latents that fire in", title_justify="left")
    for heading in ("no token", *(f"up to {100 * edge:g} %" for edge in RATE_EDGES[1:])):
        table.add_column(heading, justify="right")
    for role, report in measured.items():
        table.add_row(role, *map(str, report.histogram))
    return table


def _cells(quality: Quality) -> Iterator[str]:
    for _, attribute, shape in COLUMNS:
        yield shape.format(getattr(quality, attribute))
