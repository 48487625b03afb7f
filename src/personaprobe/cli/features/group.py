"""``personaprobe features``: the features that are registered by name."""

from __future__ import annotations

from typing import Any

import click

from personaprobe.cli.features.explain import explain
from personaprobe.cli.features.name import name
from personaprobe.cli.features.rank import rank
from personaprobe.cli.features.search import search
from personaprobe.cli.features.show import show
from personaprobe.cli.features.stability import stability
from personaprobe.cli.terminal.console import console, print_json, print_line, styled
from personaprobe.errors import FeatureError
from personaprobe.storage.readers.fields import Fields


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@click.pass_context
def features(ctx: click.Context, as_json: bool) -> None:
    """List the registered features with the evidence they were registered on, or rank latents of a dictionary.

    Any verb also takes a recipe such as means@16 or random@16:3, latents such as sae:NAME/812,77, or a direction file.
    """
    from personaprobe.features.registry.registry import registered

    if ctx.invoked_subcommand is not None:
        return
    listed = [_describe(name) for name in registered()]
    if as_json:
        print_json(listed)
    elif listed:
        _show(listed)
    else:
        print_line("no feature is registered; use a recipe such as means@16, or a direction file")


features.add_command(explain)
features.add_command(name)
features.add_command(rank)
features.add_command(search)
features.add_command(show)
features.add_command(stability)


def _describe(name: str) -> dict[str, Any]:
    """One feature as plain data; a broken entry carries its error and does not hide the others."""
    from personaprobe.effects.targets.feature import find_feature
    from personaprobe.errors import PersonaProbeError

    unknown: dict[str, Any] = {
        "name": name,
        "title": "",
        "site": None,
        "layers": None,
        "evidence": None,
        "error": None,
    }
    try:
        feature = find_feature(name)
        evidence = headline(feature.evidence)
    except PersonaProbeError as error:
        return unknown | {"error": str(error)}
    layers = "own" if feature.target.default_layers is None else feature.target.default_layers
    known = {"title": feature.title, "site": str(feature.target.site), "layers": layers}
    return unknown | known | {"evidence": evidence}


def headline(evidence: dict[str, Any]) -> str | None:
    """The effect that a sweep measured of the feature it chose, in one line.

    Raises:
        FeatureError: the evidence is of another shape than a sweep writes.
    """
    if "chosen" not in evidence:
        return None
    fields = Fields.of(evidence, "its evidence", FeatureError)
    chosen, questions = fields.fields("chosen"), fields.fields("questions")
    share, ratio = chosen.number("fraction_removed"), chosen.number("perplexity_ratio")
    n, name = questions.integer("n"), questions.text("name")
    return f"removes {share:.0%} of the shift at perplexity × {ratio:.2f} ({n} questions of {name})"


def _show(listed: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from personaprobe.cli.terminal.verdict_tables import layer_ranges

    table = Table()
    for column in ("name", "title", "site", "layers", "evidence"):
        table.add_column(column)
    for row in listed:
        layers = row["layers"]
        spelled = layer_ranges(list(layers)) if isinstance(layers, tuple) else layers or "–"
        evidence = styled(row["error"], style="red") if row["error"] else styled(row["evidence"] or "–")
        table.add_row(row["name"], row["title"], row["site"] or "–", spelled, evidence)
    console().print(table)
