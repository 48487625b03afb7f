"""The self-test on planted truths, as ``personaprobe doctor --study`` runs and prints it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from personaprobe.cli.terminal.console import (
    console,
    format_duration,
    print_json,
    print_line,
    spinner,
    study_progress,
    styled,
)
from personaprobe.cli.terminal.exit_codes import CHECK_FAILED

if TYPE_CHECKING:
    from personaprobe.studies.planted.self_test import TruthResult


def check_planted_truths(
    base: str, device: str | None, dtype: str | None, seed: int, quiet: bool, as_json: bool
) -> None:
    """Run the self-test, print its table, and exit with code 3 where some truth was not found.

    Args:
        base: demo, a folder, or a Hugging Face id.
        device: None lets the machine decide.
        dtype: None lets the machine decide.
        seed: of everything that is drawn.
        quiet: no progress.
        as_json: print plain data.
    """
    from personaprobe.models.loading import Placement, load
    from personaprobe.studies.planted.self_test import SelfTestPlan, self_test

    started, plan = time.monotonic(), SelfTestPlan.of(seed)
    with spinner(f"loading {base}", quiet):
        model = load(base, Placement(device, dtype))
    results: list[TruthResult] = []
    with TemporaryDirectory() as folder:
        for result in self_test(model, plan, Path(folder), progress=study_progress(quiet)):
            results.append(result)
            if not quiet:
                print_line(f"{result.truth.name}: {result.outcome}", err=True)
    _print_results(base, results, time.monotonic() - started, as_json)
    if not all(result.passed for result in results):
        click.get_current_context().exit(CHECK_FAILED)


def _print_results(base: str, results: Sequence[TruthResult], seconds: float, as_json: bool) -> None:
    if as_json:
        rows = [result.to_dict() for result in results]
        data = {"base": base, "seconds": round(seconds, 1), "passed": all(r.passed for r in results)}
        print_json({**data, "truths": rows}, indent=2)
        return
    from rich.table import Table

    table = Table(title=f"personaprobe doctor --study: {base}", title_justify="left")
    for name in ("planted and removed", "right verdict", "verdict", "shift", "shift removed", ""):
        table.add_column(name)
    for result in results:
        state = styled("ok", style="green") if result.passed else styled("fail", style="bold red")
        table.add_row(*map(styled, _row(result)), state)
    console().print(table)
    for line in _conclusion(results):
        print_line(line)
    print_line(f"{format_duration(seconds)}.")


def _row(result: TruthResult) -> tuple[str, ...]:
    verdict, right = result.verdict, " or ".join(result.truth.expected)
    if verdict is None:
        return result.truth.name, right, "error", "–", "–"
    removed = verdict.fraction_removed
    share = f"{100 * removed.value:z.0f} % [{100 * removed.low:z.0f}, {100 * removed.high:z.0f}]"
    return (
        result.truth.name,
        right,
        verdict.verdict,
        f"{verdict.evidence.shift.value:z.2f}",
        share if removed.defined else "–",
    )


def _conclusion(results: Sequence[TruthResult]) -> list[str]:
    """Whether this setup tells the truths apart; each that it does not, with the sentence of its verdict."""
    failed = [result for result in results if not result.passed]
    if not failed:
        return [f"This setup tells all {len(results)} planted truths apart."]
    head = f"This setup does not tell {len(failed)} of {len(results)} planted truths apart from others:"
    return [head, *(f"- {result.truth.name}: {result.explanation}" for result in failed)]
