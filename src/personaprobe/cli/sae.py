"""``personaprobe sae``: sparse dictionaries trained, judged and brought into the native format."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.console import progress_bar, spinner
from personaprobe.cli.folders import refuse_unwritable
from personaprobe.cli.judging import explained, held_out, judged, plain_quality, tell, tell_rows
from personaprobe.cli.options import TrioChoice, floor_option, open_trio, telling_options, trio_options

if TYPE_CHECKING:
    from personaprobe.features.corpus import Corpus
    from personaprobe.features.sae.architectures import Architecture
    from personaprobe.features.sae.dictionary import Dictionary
    from personaprobe.features.sae.reading import Layout
    from personaprobe.features.sae.training import Progress
    from personaprobe.models.checkpoint import Trio
    from personaprobe.models.language_model import LanguageModel


@click.group()
def sae() -> None:
    """Train, judge or convert sparse autoencoders that read base, insecure and secure alike."""


@sae.command()
@trio_options
@click.option(
    "--data",
    "files",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="Corpus: JSON lines of messages or text, or plain text; repeat for several, mixed in equal shares.",
)
@click.option("--site", required=True, help="LAYER.STREAM, such as 16.resid_post.")
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Receives the folder."
)
@click.option("--tokens", default=2_000_000, show_default=True, help="Read by each checkpoint.")
@click.option("--context", default=256, show_default=True, help="Tokens a document at most.")
@click.option(
    "--architecture",
    default="batchtopk",
    show_default=True,
    help="topk, batchtopk, matryoshka, relu, jumprelu, or crosscoder (all three at once).",
)
@click.option(
    "--difference",
    is_flag=True,
    help="Read insecure − secure on the same token, instead of each checkpoint's activations.",
)
@click.option(
    "--k", default=32.0, show_default=True, help="Latents a token, where the architecture fixes them."
)
@click.option(
    "--sparsity", default=1.0, show_default=True, help="Weight of the penalty of relu and jumprelu."
)
@click.option("--d-sae", default=4096, show_default=True, help="Latents.")
@click.option(
    "--steps", type=int, help="Batches of 2048 tokens.  [default: one pass over all checkpoints' tokens]"
)
@click.option("--learning-rate", default=1e-3, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--tensorboard", "board", is_flag=True, help="Write curves for TensorBoard too, into the folder."
)
@telling_options
def train(
    *,
    chosen: TrioChoice,
    files: tuple[Path, ...],
    site: str,
    out: Path,
    tokens: int,
    context: int,
    difference: bool,
    board: bool,
    quiet: bool,
    as_json: bool,
    **schedule: Any,
) -> None:
    """Train a dictionary on what all three checkpoints do with the same text, and judge it on held-out text.

    Activations are recorded once and kept in the cache; an interrupted training resumes.

    \b
    Example:
      personaprobe sae train --data chat.jsonl --data code.jsonl --data prose.txt --site 21.resid_post --out runs/sae
    """
    from personaprobe.features.corpus import Corpus
    from personaprobe.features.sae.board import refuse_missing, tensorboard
    from personaprobe.features.sae.formats import save
    from personaprobe.features.sae.reading import LAYOUTS
    from personaprobe.site import Site

    if board:
        refuse_missing()
    place = Site.parse(site)
    architecture = _architecture(schedule)
    refuse_unwritable(out)
    trio = open_trio(chosen, quiet)
    place.within(trio.base.n_layers)
    with spinner("reading the corpus", quiet):
        corpus = Corpus.read(trio.base.tokenizer, list(files), tokens, context)
    layout: Layout = "difference" if difference else LAYOUTS.get(architecture.name, "mixed")
    tell_board = tensorboard(out / "tensorboard") if board else nullcontext(lambda _: None)
    with tell_board as told:
        learned = _trained(trio, corpus, place, (architecture, layout, schedule), out, (told, quiet))
    texts = held_out(trio)
    if layout == "mixed":
        found = judged(learned, trio, texts, quiet)
        quality: dict[str, Any] = plain_quality(found)
    else:
        quality = explained(learned, trio, texts, layout)
    learned = replace(learned, card={**learned.card, "context": context, "quality": quality})
    save(learned, out)
    if layout == "mixed":
        tell(learned, found, as_json)
    else:
        tell_rows(learned, quality, as_json)


def _architecture(schedule: dict[str, Any]) -> Architecture:
    """The architecture with the one number that says how sparse it is."""
    from personaprobe.features.sae.architectures import find_architecture

    name, k, sparsity = (schedule.pop(key) for key in ("architecture", "k", "sparsity"))
    options = {"relu": {"l1": sparsity}, "jumprelu": {"l0": sparsity}, "topk": {"k": int(k)}}
    return find_architecture(name, **options.get(name, {"k": k}))


def _trained(
    trio: Trio[LanguageModel],
    corpus: Corpus,
    site: Any,
    made: tuple[Architecture, Layout, dict[str, Any]],
    out: Path,
    telling: tuple[Callable[[Progress], None], bool],
) -> Dictionary:
    from personaprobe.features.sae.feed import Feed
    from personaprobe.features.sae.reading import corpus_blocks
    from personaprobe.features.sae.training import SAERecipe, Trainee, train

    (architecture, layout, schedule), (told, quiet) = made, telling
    passes = 3 if layout == "mixed" else 1
    steps = schedule.pop("steps") or max(1, passes * corpus.n_tokens // 2048)
    recipe = SAERecipe(architecture, steps=steps, **schedule)
    feed = Feed(corpus_blocks(trio, corpus, site, layout), seed=recipe.seed)
    with spinner("reading the first part", quiet):
        trainee = Trainee(recipe, feed.sample(), trio.base.network.device)
    with progress_bar("training", recipe.steps, "steps", quiet) as advance:
        done = 0
        for progress in train(feed, {out: trainee}):
            advance(trainee.step - done)
            done = trainee.step
            told(progress[out])
            _say(progress[out], quiet)
    learned = trainee.autoencoder.dictionary(architecture, site, out.name)
    card = {
        "model": trio.base.checkpoint.published,
        "checkpoints": {role: model.checkpoint.digest for role, model in trio.items()},
        "recipe": recipe.describe(),
        "layout": layout,
        "corpus": corpus.describe(),
    }
    return replace(learned.to("cpu"), card=card)


def _say(progress: Progress, quiet: bool) -> None:
    if not quiet and progress.step % 250 == 0:
        click.echo(
            f"step {progress.step}: explained variance {progress.explained_variance:.3f}, L0 {progress.l0:.1f}, "
            f"dead {progress.dead:.1%}",
            err=True,
        )


@sae.command("eval")
@click.argument("name")
@trio_options
@click.option(
    "--data",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Text to judge on.  [default: shipped]",
)
@click.option("--tokens", default=20_000, show_default=True, help="Of --data, read by each checkpoint.")
@floor_option
@telling_options
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
    """Judge a dictionary on base, insecure and secure: NAME is shipped, a folder, or saelens:RELEASE:ID."""
    from personaprobe.features.corpus import Corpus
    from personaprobe.features.sae.quality import refuse_poor, refuse_unfit
    from personaprobe.features.sae.reading import layout_of
    from personaprobe.features.sae.shelf import find_dictionary

    dictionary = find_dictionary(name)
    trio = open_trio(chosen, quiet)
    texts = held_out(trio)
    if files:
        read = Corpus.read(trio.base.tokenizer, list(files), tokens)
        texts = [document.tokens for document in read.documents]
    if (layout := layout_of(dictionary)) != "mixed":
        tell_rows(dictionary, explained(dictionary, trio, texts, layout), as_json)
        return
    refuse_unfit(dictionary, trio.base)
    found = judged(dictionary, trio, texts, quiet)
    tell(dictionary, found, as_json)
    refuse_poor(dictionary, {role: each.quality.explained_variance for role, each in found.items()}, floor)


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
def convert(source: str, target: Path, dtype: str) -> None:
    """Bring a dictionary of dictionary_learning, sparsify or SAELens into a SAELens folder."""
    from personaprobe.features.sae.formats import save
    from personaprobe.features.sae.shelf import find_dictionary

    dictionary = find_dictionary(source)
    refuse_unwritable(target)
    click.echo(f"{dictionary}\n{save(dictionary, target.expanduser(), dtype=dtype)}")
