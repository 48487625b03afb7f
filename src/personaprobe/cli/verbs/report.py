"""``personaprobe report``: the pages of a finished run, made again from its data."""

from __future__ import annotations

from pathlib import Path

import click

from personaprobe.cli.terminal.console import print_line
from personaprobe.cli.terminal.output_folders import refuse_unwritable
from personaprobe.errors import OutputError
from personaprobe.storage.paths import user_path


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the pages are written.  [default: FOLDER]",
)
def report(folder: Path, out: Path | None) -> None:
    """Make the pages of a finished run again from its data; no model is loaded.

    FOLDER is the run folder of ablate, eval, sweep or features show. Its data and its table of answers are read and stay
    as they are.

    \b
    Example:
      personaprobe report runs/ablate
    """
    from personaprobe.studies.reports.run_folder import remake_report

    run = user_path(folder)
    out = run if out is None else user_path(out, OutputError)
    if run.is_dir():
        refuse_unwritable(out)
    for page in remake_report(run, out):
        print_line(page)
