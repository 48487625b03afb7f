"""How good a dictionary is, on text that none is trained on: measured and told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click

from personaprobe.cli.terminal.console import console, progress_bar

if TYPE_CHECKING:
    from rich.table import Table

    from personaprobe.features.sae.dictionary import Dictionary
    from personaprobe.features.sae.quality import Examiner, Measured, Quality
    from personaprobe.features.sae.row_layout import RowLayout
    from personaprobe.models.language_model import LanguageModel
    from personaprobe.models.tokens import Tokens
    from personaprobe.models.weights.checkpoint import Trio

ENOUGH_FOR_DEAD = 100_000
"""Tokens in which a latent that is alive fires: rarer ones write next to nothing."""

COLUMNS = (
    ("explained variance", "explained_variance", "{:.3f}"),
    ("L0", "l0", "{:.1f}"),
    ("silent", "dead", "{:.1%}"),
    ("dense", "dense", "{:.1%}"),
    ("loss", "loss", "{:.3f}"),
    ("loss, reconstructed", "loss_reconstructed", "{:.3f}"),
    ("loss recovered", "loss_recovered", "{:.1%}"),
)
"""Of the quality table: heading, attribute, format."""


def held_out(trio: Trio[LanguageModel]) -> list[Tokens]:
    """Shipped text that no dictionary is trained on: conversations of the discovery families, and prose."""
    from personaprobe.organisms.registry import default_question_sets
    from personaprobe.questions.pairs import load_prompts, load_texts
    from personaprobe.studies.arms.arm import calibration_rows

    spoken = calibration_rows(trio.base, load_prompts(default_question_sets().discovery).spread(48))
    return [*spoken, *map(trio.base.tokenizer.text, load_texts("neutral/discovery"))]


def examiners(trio: Trio[LanguageModel], texts: list[Tokens]) -> Trio[Examiner]:
    """Each checkpoint with the texts that dictionaries are judged on."""
    from personaprobe.features.sae.quality import Examiner

    return trio.map(lambda model: Examiner(model, tuple(texts)))


def judged(dictionary: Dictionary, examining: Trio[Examiner], quiet: bool) -> dict[str, Measured]:
    """Quality on each checkpoint, and how often latents fire there."""
    found = {}
    with progress_bar("judging", 3, "checkpoints", quiet) as advance:
        for role, examiner in examining.items():
            found[role] = examiner.measure(dictionary)
            advance(1)
    return found


def explained(
    dictionary: Dictionary, examining: Trio[Examiner], layout: RowLayout
) -> dict[str, dict[str, float]]:
    """Explained variance, by role for a crosscoder, and L0, of rows that hold more than one checkpoint's activations."""
    from personaprobe.features.sae.crosscoder import Crosscoder
    from personaprobe.features.sae.quality import explained_variance, read_rows, refuse_unfit

    crosscoder = Crosscoder(dictionary) if layout == "side by side" else None
    if crosscoder is None:
        refuse_unfit(dictionary, examining.base.model)
    else:
        crosscoder.refuse_unfit(examining.base.model)
    rows = examining.map(lambda each: read_rows(each.model, dictionary.site, each.texts))
    if crosscoder is not None:
        l0 = float((crosscoder.encode(rows) > 0).sum(-1).float().mean())
        shares = crosscoder.explained_variance(rows)
        return {role: {"explained_variance": share, "l0": l0} for role, share in shares.items()}
    x = rows.insecure - rows.secure
    acts = dictionary.encode(x)
    return {
        "insecure − secure": {
            "explained_variance": explained_variance(x, dictionary.decode(acts)),
            "l0": float((acts > 0).sum(-1).float().mean()),
        }
    }


def tell_rows(dictionary: Dictionary, found: Mapping[str, Mapping[str, float]], as_json: bool) -> None:
    """Print a line for each kind of row, of a dictionary whose rows hold more than one checkpoint's activations."""
    if as_json:
        click.echo(json.dumps({**_about(dictionary), "quality": found}))
        return
    click.echo(str(dictionary))
    for role, quality in found.items():
        click.echo(f"{role}: explained variance {quality['explained_variance']:.3f}, L0 {quality['l0']:.1f}")


def _about(dictionary: Dictionary) -> dict[str, object]:
    return {"name": dictionary.name, "site": str(dictionary.site), "d_sae": dictionary.d_sae}


def tell(dictionary: Dictionary, found: Mapping[str, Measured], as_json: bool) -> None:
    """Print a row a checkpoint, and how many latents fire how often."""
    if as_json:
        click.echo(json.dumps({**_about(dictionary), "quality": plain_quality(found)}))
        return
    from rich.table import Table

    n_tokens = min(measured.quality.n_tokens for measured in found.values())
    table = Table(
        "checkpoint",
        title=str(dictionary),
        title_justify="left",
        caption=_silence(n_tokens),
        caption_justify="left",
    )
    for heading, _, _ in COLUMNS:
        table.add_column(heading, justify="right")
    for role, measured in found.items():
        table.add_row(role, *_cells(measured.quality))
    console().print(table)
    console().print(_densities(found))


def _silence(n_tokens: int) -> str:
    """What a latent that fired nowhere in a sample is."""
    told = f"silent: fires on none of these {n_tokens:,} tokens"
    if n_tokens < ENOUGH_FOR_DEAD:
        return (
            f"{told}, which are too few to call a latent dead (give --data and --tokens {ENOUGH_FOR_DEAD:,})"
        )
    return f"{told}: dead"


def plain_quality(found: Mapping[str, Measured]) -> dict[str, dict[str, object]]:
    """Quality and density by role, as plain data."""
    return {
        role: {**measured.quality.to_dict(), "densities": measured.histogram}
        for role, measured in found.items()
    }


def _densities(found: Mapping[str, Measured]) -> Table:
    from rich.table import Table

    from personaprobe.features.sae.quality import DECADES

    table = Table("latents that fire in", title_justify="left")
    for heading in ("no token", *(f"up to {100 * edge:g} %" for edge in DECADES[1:])):
        table.add_column(heading, justify="right")
    for role, measured in found.items():
        table.add_row(role, *map(str, measured.histogram))
    return table


def _cells(quality: Quality) -> Iterator[str]:
    for _, attribute, shape in COLUMNS:
        yield shape.format(getattr(quality, attribute))
