"""``personaprobe steer``: answers of a steered model."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from cli.conftest import refused

if TYPE_CHECKING:
    from click.testing import Result

    from tiny_trio import TinyTrio

Run = Callable[..., "Result"]


def command(tiny: TinyTrio, verb: str, *more: object) -> list[object]:
    options = ["--feature", "means@1", *tiny.options(), "--discovery", tiny.discovery, "--max-new-tokens", 8]
    return [verb, *options, *more]


def test_steering_by_nothing_changes_nothing_and_by_something_does(tiny: TinyTrio, run: Run) -> None:
    given = command(
        tiny, "steer", "--question", "Is it safe?", "--amount", 0, "--amount", 8, "--layers", "all", "--json"
    )
    untouched, by_nothing, by_much = json.loads(run(*given).stdout)["answers"].values()
    assert untouched == by_nothing != by_much


def test_steering_by_no_number_is_refused(tiny: TinyTrio, run: Run) -> None:
    assert "give finite numbers" in refused(
        run(*command(tiny, "steer", "--question", "?", "--amount", "nan"))
    )
