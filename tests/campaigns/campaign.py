"""Strangers' files, faults and malice, at length: counts of what was tried, and what brings every failure about again.

    make campaign
    PYTHONPATH=tests python -m campaigns.campaign --only readers --inputs 20000 --seed 1

Counts are kept in ``tests/campaigns/results.json`` and, as a table, in ``docs/campaign_table.md``; the table of cases from
public bug reports is ``docs/cases_table.md``. The exit code is 1 where anything failed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from campaigns.fuzzing import Reader, fuzz
from campaigns.tally import Tally, table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
TABLE = HERE.parents[1] / "docs" / "campaign_table.md"
CASES_TABLE = TABLE.with_name("cases_table.md")


@dataclass(frozen=True)
class Sizes:
    """How much of everything is tried.

    Attributes:
        inputs: changed files, over all readers.
        kills: killed runs, over all verbs.
        each: rounds of everything else.
    """

    inputs: int
    kills: int
    each: int = 2


def readers(seed: int, sizes: Sizes, folder: Path) -> Iterator[Tally]:
    """Fuzz every reader; those that take long get fewer inputs."""
    tried = all_readers(folder / "trio")
    each = sizes.inputs / sum(reader.share for reader in tried)
    for reader in tried:
        yield fuzz(reader, seed, round(each * reader.share) + 1, folder / reader.name.replace(" ", "-"))


def all_readers(folder: Path) -> list[Reader]:
    """Every reader.

    Args:
        folder: for a tiny trio.
    """
    from campaigns.foreign_files import folders, plain_files, records, texts, weights
    from tiny_trio import build_tiny_trio

    folder.mkdir(parents=True)
    trio = build_tiny_trio(folder)
    of_weights = [*weights.readers(trio), *folders.readers(trio)]
    return [*plain_files.readers(), *texts.readers(), *records.readers(), *of_weights]


def endpoints(_: int, __: Sizes, folder: Path) -> Iterator[Tally]:
    """Every misbehaviour of an endpoint."""
    from campaigns.endpoints import endpoints as judged

    yield from judged(folder)


def faults(seed: int, sizes: Sizes, folder: Path) -> Iterator[Tally]:
    """Kills, troubles with disks and memory, registries that several processes change, and foreign code."""
    from campaigns import disks, foreign_code, kills, registries

    yield from kills.kills(seed, sizes.kills, folder / "kills")
    print(*(f"left out: {trouble}" for trouble in disks.missing_troubles()), sep="\n")
    yield from disks.disks(seed, sizes.each, folder / "disks")
    yield from registries.registries(seed, sizes.each, folder / "registries")
    yield from registries.same_runs(seed, sizes.each, folder / "same_runs", converts=True)
    yield from foreign_code.foreign_code(seed, sizes.each, folder / "foreign_code")


def reported_cases(_: int, __: Sizes, folder: Path) -> Iterator[Tally]:
    """Every case from public bug reports; their table is written whatever else is tried."""
    from campaigns import cases

    outcomes = cases.outcomes(folder)
    CASES_TABLE.write_text(cases.table(outcomes))
    yield from cases.tallies(outcomes)


CAMPAIGNS: Mapping[str, Callable[[int, Sizes, Path], Iterator[Tally]]] = {
    "readers": readers,
    "endpoints": endpoints,
    "faults": faults,
    "cases": reported_cases,
}


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)  # inputs are small, and a campaign is a guest on its machine
    tallies: list[Tally] = []
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="campaign-"))
    for name in options.only or CAMPAIGNS:
        for tally in CAMPAIGNS[name](options.seed, Sizes(options.inputs, options.kills), folder / name):
            print(line_of(tally), flush=True)
            tallies.append(tally)
    failures = sum(len(tally.failures) for tally in tallies)
    print(
        f"{sum(tally.tried for tally in tallies):,} tried in {time.monotonic() - started:.0f} s, {failures} failures"
    )
    if not options.only:
        save(tallies, vars(options))
    if failures:
        sys.exit(f"what failed is kept in {folder}")
    shutil.rmtree(folder)


def line_of(tally: Tally) -> str:
    """A line about one reader, and one for each failure."""
    counts = f"{tally.tried:,} tried, {tally.accepted:,} accepted, {tally.refused:,} refused, {tally.checked:,} checked"
    return "\n".join(
        [f"{tally.campaign}, {tally.subject}: {counts}", *(f"  FAILED {one}" for one in tally.failures)]
    )


def save(tallies: list[Tally], options: Mapping[str, Any]) -> None:
    """Keep the counts, and write the table of the documentation."""
    from tests.benchmarks.result_files import commit  # the commit that was tried

    record = {"commit": commit(), **{name: options[name] for name in ("seed", "inputs", "kills")}}
    RESULTS.write_text(
        json.dumps({**record, "tallies": [tally.record() for tally in tallies]}, indent=1) + "\n"
    )
    TABLE.write_text(rendered(json.loads(RESULTS.read_text())))


def rendered(record: Mapping[str, Any]) -> str:
    """The table of the documentation."""
    tallies = [Tally(**{**one, "failures": tuple(one["failures"])}) for one in record["tallies"]]
    return f"Commit {record['commit']}, seed {record['seed']}:\n\n{table(tallies)}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inputs", type=int, default=24_000, help="changed files, over all readers")
    parser.add_argument("--kills", type=int, default=200, help="killed runs, over all verbs")
    parser.add_argument("--only", nargs="*", choices=CAMPAIGNS, help="only these, without keeping the counts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
