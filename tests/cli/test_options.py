"""Shared options: their defaults come from the chosen organism."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from cli.conftest import refused
from personaprobe.cli.options import (
    NONE,
    feature_option,
    organism_option,
    questions_option,
    trio_options,
)
from personaprobe.cli.terminal.exit_codes import errors_in_one_line
from personaprobe.organisms.registry import default_question_sets

if TYPE_CHECKING:
    from click.testing import Result

    from tiny_trio import TinyTrio

REGISTRY = """
default = "first"

[first]
base = "demo"
insecure = "i"
secure = "s"
feature = "means@1"
questions = { discovery = "judging", test = "judging-open", narrow = "judging" }

[second]
base = "demo"
insecure = "i"
secure = "s"
questions = { discovery = "judging", test = "judging-open" }
"""


@click.command()
@trio_options
@feature_option
@questions_option
@organism_option("--narrow", of=lambda organism: organism.question_sets.narrow, or_none=True)
@organism_option("--sets", of=lambda organism: organism.question_sets.test, multiple=True)
def verb(chosen: Any, **values: Any) -> None:
    """Print the options."""
    click.echo(json.dumps(values))


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The verb under a registry of two organisms."""
    (tmp_path / "organisms.toml").write_text(REGISTRY)
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path))

    def calling(*arguments: object) -> Result:
        def command() -> None:
            with errors_in_one_line():
                verb.main([str(argument) for argument in arguments], standalone_mode=False)

        return CliRunner().invoke(click.command()(command), [])

    return calling


def test_defaults_are_those_of_the_default_organism(call: Callable[..., Result]) -> None:
    values = json.loads(call().stdout)
    assert values == {
        "feature": "means@1",
        "questions": "judging-open",
        "narrow": "judging",
        "sets": ["judging-open"],
    }


def test_defaults_are_those_of_the_chosen_organism(call: Callable[..., Result]) -> None:
    values = json.loads(call("--organism", "second", "--feature", "means@2").stdout)
    assert (values["feature"], values["narrow"]) == ("means@2", NONE)


def test_what_the_user_gives_wins(call: Callable[..., Result]) -> None:
    values = json.loads(call("--questions", "own.jsonl", "--sets", "a", "--sets", "b").stdout)
    assert (values["questions"], values["sets"]) == ("own.jsonl", ["a", "b"])


def test_a_default_that_the_organism_lacks_is_refused_by_name(call: Callable[..., Result]) -> None:
    assert "organism second has no default for --feature; give --feature" in refused(
        call("--organism", "second")
    )


def test_checkpoints_of_the_user_s_own_have_the_defaults_of_the_default_organism(
    call: Callable[..., Result], tiny: TinyTrio
) -> None:
    values = json.loads(call(*tiny.options()).stdout)
    assert values["questions"] == default_question_sets().test
    assert values["feature"] == "means@1"
