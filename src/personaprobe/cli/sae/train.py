"""``personaprobe sae train``: from files of text to dictionaries, evaluated on held-out text."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.options import output_options, seed_option, trio_options
from personaprobe.cli.sae.quality_tables import print_joint_quality, print_quality
from personaprobe.cli.terminal.console import print_line, progress_bar, spinner
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
TOKENS_PER_LINE = 50_000
"""Tokens between two lines about reading."""

STEPS_PER_LINE = 250
"""Steps between two lines about a dictionary."""


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
    help="Of topk, batchtopk, matryoshka and crosscoder: find the active latents by a product in bfloat16, and compute "
    "those in float32. A quarter faster where bfloat16 is faster; elsewhere no difference.",
)
@click.option(
    "--steps", type=int, help="Batches of 2048 tokens.  [default: one pass over all checkpoints' tokens]"
)
@click.option("--learning-rate", default=1e-3, show_default=True)
@seed_option()
@click.option("--tensorboard", is_flag=True, help="Write curves for TensorBoard too.")
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
    tensorboard: bool,
    quiet: bool,
    as_json: bool,
    **schedule: Any,
) -> None:
    """Train dictionaries on the activations of all three checkpoints, and evaluate them on held-out text.

    Activations are recorded once, at all sites in one pass, and kept in the cache; dictionaries of one site learn from the
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

    if tensorboard:
        refuse_missing_tensorboard()
    kind = architecture_class(architecture)
    layout: RowLayout = "difference" if difference else kind.layout
    architectures = {k: kind.with_sparsity(k, sparsity, preselect) for k in ks}
    specs = training_grid(out, [*map(Site.parse, sites)], architectures, sizes, **schedule)
    for folder in specs:
        refuse_unwritable(folder)
    trio = open_trio(chosen, quiet)
    for spec in specs.values():
        spec.site.within(trio.base.n_layers)
    with spinner("reading the corpus", quiet):
        corpus = Corpus.read(trio.base.tokenizer, list(files), tokens, context)
    specs = with_steps(specs, steps or _steps_of_one_pass(corpus.n_tokens, layout))
    evaluators = quality_evaluators(trio, held_out_texts(trio.base))
    with _TrainingReporter(specs, tensorboard, quiet) as reporter:
        for folder, dictionary in fit_dictionaries(
            trio, corpus, specs, layout, on_tokens=reporter.on_tokens, on_metrics=reporter.on_metrics
        ):
            trained = replace(dictionary, card={**dictionary.card, "context": context})
            save_dictionary(_evaluated(trained, evaluators, layout, (quiet, as_json)), folder)


def _steps_of_one_pass(n_tokens: int, layout: RowLayout) -> int:
    """Batches that hold every row once; in the layout ``mixed`` a token is a row of each checkpoint."""
    rows_per_token = 3 if layout == "mixed" else 1
    return max(1, rows_per_token * n_tokens // BATCH_ROWS)


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


class _TrainingReporter:
    """Progress of all dictionaries: a bar of their steps, a line every 250 steps, and TensorBoard curves on request."""

    def __init__(self, specs: Mapping[Path, DictionarySpec], tensorboard: bool, quiet: bool) -> None:
        self.specs, self.tensorboard, self.quiet = specs, tensorboard, quiet
        self.steps = dict.fromkeys(specs, 0)
        self.n_tokens = 0
        self.stack = ExitStack()

    def __enter__(self) -> _TrainingReporter:
        from personaprobe.features.sae.training.tensorboard import tensorboard_writer

        total = sum(spec.recipe.steps for spec in self.specs.values())
        self.advance = self.stack.enter_context(progress_bar("training", total, "steps", self.quiet))
        self.writers = {
            folder: self.stack.enter_context(tensorboard_writer(folder / "tensorboard"))
            for folder in self.specs
            if self.tensorboard
        }
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.__exit__(*error)  # type: ignore[arg-type]  # handed through

    def on_tokens(self, n_tokens: int) -> None:
        """Print a line every :data:`TOKENS_PER_LINE` tokens: training waits while the models read."""
        before, self.n_tokens = self.n_tokens, self.n_tokens + n_tokens
        if self.n_tokens // TOKENS_PER_LINE > before // TOKENS_PER_LINE:
            self._print(f"{self.n_tokens:,} tokens read or found kept, by the three checkpoints together")

    def on_metrics(self, by_folder: Mapping[Path, TrainingMetrics]) -> None:
        """Advance the bar, write curves, and print a line now and then."""
        for folder, metrics in by_folder.items():
            self.advance(metrics.step - self.steps[folder])
            self.steps[folder] = metrics.step
            if folder in self.writers:
                self.writers[folder](metrics)
            if metrics.step % STEPS_PER_LINE == 0:
                self._print(
                    f"{folder.name}, step {metrics.step}: explained variance {metrics.explained_variance:.3f}, "
                    f"L0 {metrics.l0:.1f}, dead {metrics.dead:.1%}"
                )

    def _print(self, line: str) -> None:
        if not self.quiet:
            print_line(line, err=True)
