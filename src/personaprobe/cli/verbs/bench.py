"""``personaprobe bench``: how fast this machine works, beside the bare model."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.options import output_options, trio_options
from personaprobe.cli.terminal.console import console, study_progress
from personaprobe.cli.trio_choice import TrioChoice, open_trio

if TYPE_CHECKING:
    from personaprobe.studies.speed.timing import Measured


@click.command()
@trio_options
@click.option(
    "--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each contender."
)
@output_options
def bench(*, chosen: TrioChoice, rounds: int, quiet: bool, as_json: bool) -> None:
    """Time recording, scoring and generation beside the bare model, on the same token ids, in turn.

    Speeds are relative to the first contender of the same round: above 1 is faster. That all compute the same is checked
    before, and told.
    """
    from personaprobe.studies.arms.provenance import hardware
    from personaprobe.studies.speed.timing import measure, peak_flops
    from personaprobe.studies.speed.workloads import works

    trio = open_trio(chosen, quiet)
    model = trio.insecure
    peak = peak_flops(model.network.device, model.network.dtype)
    found = [measure(work, rounds, study_progress(quiet), peak) for work in works(trio)]
    told = {
        "model": str(model.checkpoint),
        "dtype": str(model.network.dtype),
        "device": str(model.network.device),
        "rounds": rounds,
        "peak TFLOP/s": round(peak / 1e12, 3),
        "hardware": hardware(),
        "works": [asdict(each) for each in found],
    }
    if as_json:
        click.echo(json.dumps(told))
    else:
        _show(told, found)


def _show(told: dict[str, Any], found: list[Measured]) -> None:
    from rich.table import Table

    machine = told["hardware"]
    click.echo(
        f"{told['model']}, {told['dtype']} on {told['device']}; {machine['cpu']}, {machine['cores']} cores, "
        f"products of matrices at most {told['peak TFLOP/s']} TFLOP/s"
    )
    for each in found:
        table = Table(each.name, title_justify="left", caption=each.deviation, caption_justify="left")
        counted = any(speed.mfu is not None for speed in each.speeds.values())
        for heading in ("seconds", "speed", "from", "to", *(["of peak"] if counted else [])):
            table.add_column(heading, justify="right")
        for name, speed in each.speeds.items():
            ratios = (f"{x:.2f}" for x in (speed.ratio, speed.slowest, speed.fastest))
            used = [] if speed.mfu is None else [f"{speed.mfu:.0%}"]
            table.add_row(name, f"{speed.seconds:.3f}", *ratios, *used)
        console().print(table)
