"""Print the table of arms and the verdict of a finished study as Markdown, as README and docs/results.md show them.

python docs/verdict_table.py runs/ablate-toxic-persona-advice [--short]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

GROUPS = {
    "random": "random directions",
    "covariance": "directions of the covariance",
    "shuffled": "shuffled labels",
    "control elsewhere": "controls",
}
OMITTED = (
    *("component", "benign", "organism", "iterated", "logit bias"),
    *("control elsewhere", "steered"),
)
"""Kinds of arms that the short table leaves out."""

Arms: TypeAlias = Sequence[dict[str, Any]]


def main() -> None:
    """Read the arguments, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished `personaprobe ablate`")
    parser.add_argument("--short", action="store_true", help="only the arms that the README shows")
    options = parser.parse_args()
    verdict = json.loads((options.run / "verdict.json").read_text(encoding="utf-8"))
    lines = [
        *table(verdict, short=options.short),
        "",
        f"Verdict: **{verdict['name']}**. {verdict['sentence']}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def table(verdict: dict[str, Any], *, short: bool = False) -> Iterator[str]:
    """The table, line by line: a row for each arm, and one for all controls of a kind."""
    yield "| arm | questions | preference for careless (nats a token) | shift removed | perplexity | KL | coherent |"
    yield "|---|---|---|---|---|---|---|"
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for arm in verdict["arms"]:
        if not short or arm["kind"] not in OMITTED:
            key = ("", arm["name"]) if arm["kind"] not in GROUPS else (arm["role"], arm["kind"])
            rows.setdefault(key, []).append(arm)
    for arms in rows.values():
        yield f"| {' | '.join(cells(arms, verdict))} |"


def cells(arms: Arms, verdict: dict[str, Any]) -> Iterator[str]:
    """The cells of one arm, or of several controls."""
    kind, single = arms[0]["kind"], len(arms) == 1
    where = f"{arms[0]['role']}, " if kind == "control elsewhere" else ""
    yield arms[0]["name"] if single else f"{where}{len(arms)} {GROUPS[kind]}"
    yield str(arms[0]["n_questions"])
    yield interval(arms[0]["gap"]) if single else span([arm["gap"]["value"] for arm in arms], "{:z.2f}")
    yield removed(arms, verdict)
    yield span([arm["perplexity"] for arm in arms], "{:.2f}")
    yield span([arm["kl"] for arm in arms], "{:.3f}")
    coherent = arms[0]["coherence"] if single else None
    yield "–" if coherent is None else f"{100 * coherent:.0f} %"


def removed(arms: Arms, verdict: dict[str, Any]) -> str:
    """The share of the shift that is removed; the feature's own in bold."""
    share = verdict["fraction_removed"] if arms[0]["kind"] == "ablated" else arms[0]["removed"]
    if arms[0]["kind"] == verdict["reference"]:
        return "100 %"
    if share["value"] is None:
        return "–"
    if len(arms) > 1:
        return span([100 * arm["removed"]["value"] for arm in arms], "{:z.0f}") + " %"
    value, low, high = (f"{100 * share[key]:z.0f}" for key in ("value", "low", "high"))
    text = f"{value} [{low}, {high}] %"
    return f"**{text}**" if arms[0]["kind"] == "ablated" else text


def interval(data: dict[str, float]) -> str:
    """An estimate with its interval."""
    return "{value:z.2f} [{low:z.2f}, {high:z.2f}]".format_map(data)


def span(values: Sequence[float | None], form: str) -> str:
    """The range of several numbers, those that were not measured left out."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return "–"
    low, high = (form.format(end) for end in (min(known), max(known)))
    return low if low == high else f"{low} to {high}"


if __name__ == "__main__":
    main()
