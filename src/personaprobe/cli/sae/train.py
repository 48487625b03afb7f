"""``personaprobe sae train``: from files of text to dictionaries, judged on text that none of them saw."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.options import output_options, seed_option, trio_options
from personaprobe.cli.sae.quality_tables import print_joint_quality, print_quality
from personaprobe.cli.terminal.console import progress_bar, spinner
from personaprobe.cli.terminal.output_folders import refuse_unwritable
from personaprobe.cli.trio_choice import TrioChoice, open_trio

if TYPE_CHECKING:
    from personaprobe.features.sae.dictionary import Dictionary
    from personaprobe.features.sae.quality import QualityEvaluator
    from personaprobe.features.sae.row_layout import RowLayout
    from personaprobe.features.sae.training.fit import DictionarySpec
    from personaprobe.features.sae.training.trainer import TrainingMetrics
    from personaprobe.models.weights.checkpoint import Trio

BATCH_ROWS = 2048
READ_LINE = 50_000
"""Tokens between lines that say how many were read."""


@click.command()
@trio_options
@click.option(
    "--data",
    "files",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="Corpus: JSON lines of messages or text, or plain text; repeat for several, mixed in equal shares.",
)
@click.option(
    "--site",
    "sites",
    required=True,
    multiple=True,
    help="LAYER.STREAM, such as 16.resid_post; repeat for several.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Receives the folder; with several dictionaries, a folder of each.",
)
@click.option("--tokens", default=2_000_000, show_default=True, help="Read by each checkpoint.")
@click.option("--context", default=256, show_default=True, help="Tokens a document at most.")
@click.option(
    "--architecture",
    default="batchtopk",
    show_default=True,
    help="topk, batchtopk, matryoshka, relu, jumprelu, crosscoder (all three checkpoints at once), or one that another "
    "package adds.",
)
@click.option(
    "--difference",
    is_flag=True,
    help="Read insecure − secure on the same token, instead of each checkpoint's activations.",
)
@click.option(
    "--k",
    "ks",
    default=[32.0],
    show_default=True,
    multiple=True,
    help="Latents a token, where the architecture fixes them; repeat for several.",
)
@click.option(
    "--sparsity", default=1.0, show_default=True, help="Weight of the penalty of relu and jumprelu."
)
@click.option(
    "--d-sae", "sizes", default=[4096], show_default=True, multiple=True, help="Latents; repeat for several."
)
@click.option(
    "--preselect",
    is_flag=True,
    help="Of topk, batchtopk, matryoshka and crosscoder: find the latents that fire by a product in bfloat16, and compute "
    "those in float32. A quarter faster where bfloat16 is; elsewhere as without.",
)
@click.option(
    "--steps", type=int, help="Batches of 2048 tokens.  [default: one pass over all checkpoints' tokens]"
)
@click.option("--learning-rate", default=1e-3, show_default=True)
@seed_option()
@click.option("--tensorboard", "board", is_flag=True, help="Write curves for TensorBoard too.")
@output_options
def train(
    *,
    chosen: TrioChoice,
    files: tuple[Path, ...],
    sites: tuple[str, ...],
    out: Path,
    tokens: int,
    context: int,
    architecture: str,
    difference: bool,
    ks: tuple[float, ...],
    sparsity: float,
    sizes: tuple[int, ...],
    preselect: bool,
    steps: int | None,
    board: bool,
    quiet: bool,
    as_json: bool,
    **schedule: Any,
) -> None:
    """Train dictionaries on what all three checkpoints do with the same text, and judge them on held-out text.

    Activations are recorded once, of all sites in one pass, and kept in the cache; dictionaries of one site learn from the
    same batches. An interrupted training resumes.

    \b
    Example:
      personaprobe sae train --data chat.jsonl --data code.jsonl --data prose.txt --site 21.resid_post --out runs/sae
    """
    from personaprobe.features.activations.corpus import Corpus
    from personaprobe.features.sae.formats.saelens import save_dictionary
    from personaprobe.features.sae.training.architectures.registry import architecture_class
    from personaprobe.features.sae.training.fit import fit_dictionaries, training_grid, with_steps
    from personaprobe.features.sae.training.tensorboard import refuse_missing_tensorboard
    from personaprobe.features.sae.trio_quality import quality_evaluators
    from personaprobe.site import Site
    from personaprobe.studies.latents.held_out import held_out_texts

    if board:
        refuse_missing_tensorboard()
    kind = architecture_class(architecture)
    layout: RowLayout = "difference" if difference else kind.layout
    architectures = {k: kind.with_sparsity(k, sparsity, preselect) for k in ks}
    wanted = training_grid(out, [*map(Site.parse, sites)], architectures, sizes, **schedule)
    for folder in wanted:
        refuse_unwritable(folder)
    trio = open_trio(chosen, quiet)
    for each in wanted.values():
        each.site.within(trio.base.n_layers)
    with spinner("reading the corpus", quiet):
        corpus = Corpus.read(trio.base.tokenizer, list(files), tokens, context)
    passes = 3 if layout == "mixed" else 1
    wanted = with_steps(wanted, steps or max(1, passes * corpus.n_tokens // BATCH_ROWS))
    evaluators = quality_evaluators(trio, held_out_texts(trio.base))
    with _Telling(wanted, board, quiet) as telling:
        for folder, learned in fit_dictionaries(
            trio, corpus, wanted, layout, on_tokens=telling.read, on_metrics=telling.told
        ):
            known = replace(learned, card={**learned.card, "context": context})
            save_dictionary(_evaluated(known, evaluators, layout, (quiet, as_json)), folder)


def _evaluated(
    dictionary: Dictionary,
    evaluators: Trio[QualityEvaluator],
    layout: RowLayout,
    output: tuple[bool, bool],
) -> Dictionary:
    """The dictionary with its quality on its card; prints the quality.

    Args:
        dictionary: as trained.
        evaluators: of the three checkpoints.
        layout: of its rows.
        output: the options ``--quiet`` and ``--json``.
    """
    from personaprobe.features.sae.trio_quality import (
        measure_joint_rows,
        measure_on_trio,
        quality_as_json,
        with_quality,
    )

    quiet, as_json = output
    if layout != "mixed":
        quality = measure_joint_rows(dictionary, evaluators)
        print_joint_quality(dictionary, quality, as_json)
        return with_quality(dictionary, quality)
    with progress_bar("judging", 3, "checkpoints", quiet) as advance:
        measured = measure_on_trio(dictionary, evaluators, advance)
    print_quality(dictionary, measured, as_json)
    return with_quality(dictionary, quality_as_json(measured))


class _Telling:
    """Progress of all dictionaries: a bar of their steps, a line now and then, and curves where they are wanted."""

    def __init__(self, wanted: Mapping[Path, DictionarySpec], board: bool, quiet: bool) -> None:
        self.wanted, self.board, self.quiet = wanted, board, quiet
        self.steps = dict.fromkeys(wanted, 0)
        self.n_read = 0
        self.stack = ExitStack()

    def __enter__(self) -> _Telling:
        from personaprobe.features.sae.training.tensorboard import tensorboard_writer

        total = sum(each.recipe.steps for each in self.wanted.values())
        self.advance = self.stack.enter_context(progress_bar("training", total, "steps", self.quiet))
        self.boards = {
            folder: self.stack.enter_context(tensorboard_writer(folder / "tensorboard"))
            for folder in self.wanted
            if self.board
        }
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.__exit__(*error)  # type: ignore[arg-type]  # handed through

    def read(self, n_tokens: int) -> None:
        """Tell, every so many tokens, how many were read: training waits for them."""
        before, self.n_read = self.n_read, self.n_read + n_tokens
        if self.n_read // READ_LINE > before // READ_LINE:
            self._say(f"{self.n_read:,} tokens read or found kept, by the three checkpoints together")

    def told(self, made: Mapping[Path, TrainingMetrics]) -> None:
        """Tell what some dictionaries have come to."""
        for folder, progress in made.items():
            self.advance(progress.step - self.steps[folder])
            self.steps[folder] = progress.step
            if folder in self.boards:
                self.boards[folder](progress)
            if progress.step % 250 == 0:
                self._say(
                    f"{folder.name}, step {progress.step}: explained variance {progress.explained_variance:.3f}, "
                    f"L0 {progress.l0:.1f}, dead {progress.dead:.1%}"
                )

    def _say(self, line: str) -> None:
        if not self.quiet:
            click.echo(line, err=True)
