"""``personaprobe extract``: record activations of a trio into aligned stores."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.options import organism_option, output_options, trio_options
from personaprobe.cli.terminal.console import print_json, print_line, progress_bar
from personaprobe.cli.trio_choice import TrioChoice, open_trio

if TYPE_CHECKING:
    from personaprobe.features.activations.store import ActivationStore
    from personaprobe.features.activations.store_files import Keep


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
@click.option(
    "--plan", "only_plan", is_flag=True, help="Print the expected time, memory and disk space, and stop."
)
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
    """Record activations of base, insecure and secure at the chosen sites, over the same token ids.

    Prints the folder of each model's store. A store that is complete already is not recorded again.

    \b
    Example:
      personaprobe extract --sites 16.resid_post,20.resid_post
    """
    from personaprobe.features.activations.cost import estimate_cost
    from personaprobe.features.activations.recording import record
    from personaprobe.features.activations.recording_spec import RecordingSpec
    from personaprobe.questions.catalog import find_texts
    from personaprobe.site import Site

    sites_read = [Site.parse(site) for site in sites.split(",") if site.strip()]
    read = find_texts(texts)
    trio = open_trio(chosen, quiet)
    if only_plan:
        planned = estimate_cost(trio, read, sites_read, keep)
        if as_json:
            print_json(asdict(planned))
        else:
            print_line(planned)
        return
    n_tokens = len(trio.roles) * RecordingSpec.of(trio.base, read, sites_read, keep).n_tokens
    with progress_bar("recording", n_tokens, "tokens", quiet) as advance:
        stores = record(trio, read, sites_read, keep=keep, home=out, progress=advance)
    if as_json:
        print_json({role: _summary(store) for role, store in stores.items()})
    else:
        print_line("\n".join(f"{role:9}{store.folder}" for role, store in stores.items()))


def _summary(store: ActivationStore) -> dict[str, Any]:
    """A store as plain data."""
    return {
        "folder": str(store.folder),
        "digest": store.digest,
        "sites": list(map(str, store.sites)),
        "keep": store.keep,
        "n_rows": len(store),
        "d_model": store.d_model,
    }
