"""``personaprobe doctor``: check this machine, or whether studies on a base find truths that were planted in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from personaprobe.cli.options import device_option, dtype_option, output_options, seed_option, with_options
from personaprobe.cli.terminal.console import spinner
from personaprobe.cli.terminal.findings import print_findings
from personaprobe.errors import PersonaProbeError
from personaprobe.models.weights.packaged import DEMO

F = TypeVar("F", bound=Callable[..., Any])

STUDY_OPTIONS = (
    click.option(
        "--study",
        is_flag=True,
        help="Plant personas in a base, run small studies whose verdict is known, and compare. Minutes.",
    ),
    click.option(
        "--base",
        help="With --study: the base that personas are planted in; demo, a folder, or a Hugging Face id.  [default: demo]",
    ),
    device_option,
    dtype_option,
    seed_option("Of planted changes, controls, draws and intervals."),
)


def study_options(command: F) -> F:
    """Add the options of the self-test on planted truths."""
    return with_options(command, STUDY_OPTIONS)


@click.command()
@click.option("--fast", is_flag=True, help="Do not load the demo model.")
@click.option(
    "--clean", is_flag=True, help="Remove the temporary files that killed runs left; check nothing else."
)
@study_options
@output_options
def doctor(
    *,
    fast: bool,
    clean: bool,
    study: bool,
    base: str | None,
    device: str | None,
    dtype: str | None,
    seed: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Check the environment, the devices, the demo model, the checkpoints and the cache.

    With --study, check instead whether studies on a base find what was planted in it: a persona, none, a random direction,
    a damaging one. Exit code 3 means that a check failed.
    """
    if study:
        from personaprobe.cli.health.planted_truths import check_planted_truths

        check_planted_truths(base or DEMO, device, dtype, seed, quiet, as_json)
        return
    if clean:
        from personaprobe.cli.health.leftover_files import clean_leftovers

        print_findings("personaprobe doctor --clean", clean_leftovers(), as_json)
        return
    if alone := _given_options():
        raise PersonaProbeError(f"{', '.join(alone)} belong to the self-test on planted truths: add --study")
    from personaprobe.cli.health.environment import demo_self_check, environment_findings

    with spinner("checking", quiet):
        findings = environment_findings()
    if not fast and all(f.state == "ok" for f in findings if f.subject.startswith("demo")):
        with spinner("checking the demo model", quiet):
            findings += demo_self_check()
    print_findings("personaprobe doctor", findings, as_json)


def _given_options() -> list[str]:
    """The options of the self-test that the user gave."""
    context = click.get_current_context()
    names = ("base", "device", "dtype", "seed")
    return [
        f"--{name}"
        for name in names
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    ]
