"""A finished study: its page and its plain data in the run folder, and its tables or its data on stdout."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.cli.terminal.console import print_json, print_line, print_table

if TYPE_CHECKING:
    from personaprobe.studies.reports.cells import TextTable


def show_study(
    data: Mapping[str, Any],
    path: Path,
    render: Callable[[Mapping[str, Any]], str],
    tables: Sequence[TextTable],
    as_json: bool,
) -> None:
    """Write a study beside its page, and print its tables and its sentence, or its data.

    Args:
        data: plain, with a ``sentence``.
        path: of the page; the data is written beside it, with the ending ``.json``.
        render: the page.
        tables: that are printed.
        as_json: print the data in their place.
    """
    from personaprobe.storage.files import write_text

    write_text(path.with_suffix(".json"), json.dumps(data, indent=1) + "\n")
    write_text(path, render(data))
    if as_json:
        print_json(data)
        return
    for table in tables:
        print_table(table)
    print_line(data["sentence"])
    print_line(path)
