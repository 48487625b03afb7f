"""``personaprobe sae``: train, evaluate and convert sparse dictionaries."""

from __future__ import annotations

from pathlib import Path

import click

from personaprobe.cli.options import floor_option, output_options, trio_options
from personaprobe.cli.sae.quality_tables import print_joint_quality, print_quality
from personaprobe.cli.sae.train import train
from personaprobe.cli.terminal.console import print_line, progress_bar
from personaprobe.cli.terminal.output_folders import refuse_unwritable
from personaprobe.cli.trio_choice import TrioChoice, open_trio
from personaprobe.errors import OutputError
from personaprobe.storage.paths import user_path


@click.group()
def sae() -> None:
    """Train, evaluate or convert sparse autoencoders of base, insecure and secure."""


sae.add_command(train)


@sae.command("eval")
@click.argument("name")
@trio_options
@click.option(
    "--data",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Text to evaluate on.  [default: shipped]",
)
@click.option("--tokens", default=20_000, show_default=True, help="Of --data, read by each checkpoint.")
@floor_option
@output_options
def evaluate(
    *,
    name: str,
    chosen: TrioChoice,
    files: tuple[Path, ...],
    tokens: int,
    floor: float,
    quiet: bool,
    as_json: bool,
) -> None:
    """Evaluate a dictionary on base, insecure and secure: NAME is shipped, a folder, or saelens:RELEASE:ID."""
    from personaprobe.features.activations.corpus import Corpus
    from personaprobe.features.sae.catalog import find_dictionary
    from personaprobe.features.sae.quality import refuse_poor_dictionary
    from personaprobe.features.sae.row_layout import row_layout
    from personaprobe.features.sae.trio_quality import (
        measure_joint_rows,
        measure_on_trio,
        quality_evaluators,
    )
    from personaprobe.studies.latents.held_out import held_out_texts

    dictionary = find_dictionary(name)
    trio = open_trio(chosen, quiet)
    if files:
        corpus = Corpus.read(trio.base.tokenizer, list(files), tokens)
        texts = [document.tokens for document in corpus.documents]
    else:
        texts = held_out_texts(trio.base)
    evaluators = quality_evaluators(trio, texts)
    if row_layout(dictionary) != "mixed":
        print_joint_quality(dictionary, measure_joint_rows(dictionary, evaluators), as_json)
        return
    with progress_bar("judging", 3, "checkpoints", quiet) as advance:
        measured = measure_on_trio(dictionary, evaluators, advance)
    print_quality(dictionary, measured, as_json)
    refuse_poor_dictionary(
        dictionary, {role: report.quality.explained_variance for role, report in measured.items()}, floor
    )


@sae.command()
@click.argument("source")
@click.argument("target", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Of the weights.",
)
@click.option(
    "--threshold-scale",
    type=float,
    help="Multiplies the thresholds of a JumpReLU: above 1 fewer latents fire.",
)
def convert(source: str, target: Path, dtype: str, threshold_scale: float | None) -> None:
    """Convert a dictionary of dictionary_learning, sparsify or SAELens to a SAELens folder."""
    from personaprobe.features.sae.catalog import find_dictionary
    from personaprobe.features.sae.formats.saelens import save_dictionary

    dictionary = find_dictionary(source)
    refuse_unwritable(target)
    if threshold_scale is not None:
        dictionary = dictionary.with_scaled_thresholds(threshold_scale)
    print_line(f"{dictionary}\n{save_dictionary(dictionary, user_path(target, OutputError), dtype=dtype)}")
