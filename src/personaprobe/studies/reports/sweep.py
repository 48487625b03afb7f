"""A sweep as a page that works offline, and as data: ``sweep.html, sweep.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from personaprobe.storage.files import write_text
from personaprobe.storage.plain_json import to_plain_json
from personaprobe.studies.reports import figures
from personaprobe.studies.reports.ablation import drawing, environment, fingerprint, packaged, spelled
from personaprobe.studies.sweep.selection import Choice


def write_sweep(choice: Choice, folder: Path) -> Path:
    """Write the map of a sweep and what was chosen; every file is whole or absent, the page last.

    Returns:
        The path of ``sweep.html``.

    Raises:
        OutputError: the folder cannot be written.
    """
    page = render(choice)
    told: dict[str, Any] = to_plain_json({"schema": "personaprobe-sweep-1", **choice.evidence()})
    write_text(folder / "sweep.json", spelled(told))
    write_text(folder / "sweep.html", page)
    return folder / "sweep.html"


def render(choice: Choice) -> str:
    """The page as text: its policy forbids browsers to load anything, or to run any script but its own two."""
    from markupsafe import Markup

    told = choice.evidence()
    limit = choice.bounds.max_perplexity_ratio
    scripts = drawing()
    figure = figures.sweep_map(told["sweep"], told["chosen"], limit)
    template = environment().from_string(packaged("sweep.html.jinja"))
    return template.render(
        choice=choice,
        css=Markup(packaged("report.css")),
        figure=Markup(figures.figure_json(figure)),
        cells=sorted(choice.cells, key=lambda cell: -cell.fraction_removed),
        scripts=[Markup(script) for script in scripts],
        policy=" ".join(map(fingerprint, scripts)),
    )
