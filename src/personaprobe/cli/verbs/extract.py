"""``personaprobe extract``: record activations of a trio into aligned stores."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.options import organism_option, output_options, trio_options
from personaprobe.cli.terminal.console import progress_bar
from personaprobe.cli.trio_choice import TrioChoice, open_trio

if TYPE_CHECKING:
    from personaprobe.features.activations.store import ActivationStore
    from personaprobe.features.activations.store_files import Keep
    from personaprobe.questions.pairs import PairSet
    from personaprobe.questions.texts import TextSet


@click.command()
@trio_options
@organism_option(
    "--texts",
    of=lambda organism: organism.question_sets.discovery,
    help="A question set or a set of texts that `questions list` shows, or a .jsonl file of pairs or of texts.",
)
@click.option(
    "--sites", required=True, help="LAYER.STREAM, several with commas: 16.resid_post,20.resid_post."
)
@click.option(
    "--keep",
    type=click.Choice(["means", "tokens"]),
    default="means",
    show_default=True,
    help="means: the last prompt token and the mean over the response. tokens: every response token.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Stores go to OUT/stores; by default to the cache, where other commands find them.",
)
@click.option("--plan", "only_plan", is_flag=True, help="Say what it would take, and stop.")
@output_options
def extract(
    *,
    chosen: TrioChoice,
    texts: str,
    sites: str,
    keep: Keep,
    out: Path | None,
    only_plan: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Record what passes the chosen sites of base, insecure and secure, over the same token ids.

    Prints one folder a model. What is already recorded is not recorded again.

    \b
    Example:
      personaprobe extract --sites 16.resid_post,20.resid_post
    """
    from personaprobe.features.activations.cost import estimate_cost
    from personaprobe.features.activations.recording import record
    from personaprobe.features.activations.recording_spec import RecordingSpec
    from personaprobe.site import Site

    places = [Site.parse(site) for site in sites.split(",") if site.strip()]
    read = read_texts(texts)
    trio = open_trio(chosen, quiet)
    if only_plan:
        planned = estimate_cost(trio, read, places, keep)
        click.echo(json.dumps(asdict(planned)) if as_json else str(planned))
        return
    n_tokens = 3 * RecordingSpec.of(trio.base, read, places, keep).n_tokens
    with progress_bar("recording", n_tokens, "tokens", quiet) as advance:
        stores = record(trio, read, places, keep=keep, home=out, progress=advance)
    told = {role: describe(store) for role, store in stores.items()}
    click.echo(json.dumps(told) if as_json else "\n".join(f"{k:9}{v['folder']}" for k, v in told.items()))


def describe(store: ActivationStore) -> dict[str, Any]:
    """A store as plain data."""
    return {
        "folder": str(store.folder),
        "digest": store.digest,
        "sites": list(map(str, store.sites)),
        "keep": store.keep,
        "n_rows": len(store),
        "d_model": store.d_model,
    }


def read_texts(name: str) -> PairSet | TextSet:
    """Load a question set, or plain texts where that is what the name or the file's first line says."""
    from personaprobe.questions.pairs import load_prompts
    from personaprobe.questions.texts import TEXTS, load_texts

    path = Path(name).expanduser()
    if name in TEXTS:
        return load_texts(name)
    return load_texts(path) if path.is_file() and _holds_texts(path) else load_prompts(name)


def _holds_texts(path: Path) -> bool:
    """Whether the first line is of the form ``{"text": …}``; a line nobody can read is left to the loader."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        first = next((line for line in lines if line.strip()), "")
    try:
        row = json.loads(first)
    except ValueError:
        return False
    return isinstance(row, dict) and "text" in row
