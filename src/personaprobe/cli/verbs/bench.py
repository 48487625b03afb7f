"""``personaprobe bench``: the speed of this machine, beside transformers alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from personaprobe.cli.options import output_options, trio_options
from personaprobe.cli.terminal.console import console, print_json, print_line, study_progress
from personaprobe.cli.trio_choice import TrioChoice, open_trio

if TYPE_CHECKING:
    from personaprobe.studies.speed.timing import TimedWorkload


@click.command()
@trio_options
@click.option(
    "--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each variant."
)
@output_options
def bench(*, chosen: TrioChoice, rounds: int, quiet: bool, as_json: bool) -> None:
    """Time recording, scoring and generation beside the bare model, on the same token ids, in turn.

    Speeds are relative to the first variant of the same round: above 1 is faster. Before the timing, every variant is
    compared with the first one, and the difference is printed.
    """
    from personaprobe.studies.arms.provenance import hardware
    from personaprobe.studies.speed.timing import peak_flops, time_workload
    from personaprobe.studies.speed.workloads import workloads

    trio = open_trio(chosen, quiet)
    model = trio.insecure
    peak = peak_flops(model.network.device, model.network.dtype)
    timed = [time_workload(load, rounds, study_progress(quiet), peak) for load in workloads(trio)]
    record = {
        "model": str(model.checkpoint),
        "dtype": str(model.network.dtype),
        "device": str(model.network.device),
        "rounds": rounds,
        "peak TFLOP/s": round(peak / 1e12, 3),
        "hardware": hardware(),
        "works": [asdict(workload) for workload in timed],
    }
    if as_json:
        print_json(record)
    else:
        _print_tables(record, timed)


def _print_tables(record: dict[str, Any], timed: list[TimedWorkload]) -> None:
    from rich.table import Table

    machine = record["hardware"]
    print_line(
        f"{record['model']}, {record['dtype']} on {record['device']}; {machine['cpu']}, {machine['cores']} cores, "
        f"products of matrices at most {record['peak TFLOP/s']} TFLOP/s"
    )
    for workload in timed:
        table = Table(workload.name, title_justify="left", caption=workload.deviation, caption_justify="left")
        counted = any(speed.mfu is not None for speed in workload.speeds.values())
        for heading in ("seconds", "speed", "from", "to", *(["of peak"] if counted else [])):
            table.add_column(heading, justify="right")
        for name, speed in workload.speeds.items():
            ratios = (f"{x:.2f}" for x in (speed.ratio, speed.slowest, speed.fastest))
            utilisation = [] if speed.mfu is None else [f"{speed.mfu:.0%}"]
            table.add_row(name, f"{speed.seconds:.3f}", *ratios, *utilisation)
        console().print(table)
