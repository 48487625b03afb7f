"""A verb from outside: an entry point adds it to the command line, and it is imported only when it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from installing import install

MODULE = '''
import click


@click.command()
@click.argument("name")
def greet(name):
    """Greet somebody."""
    from personaprobe.errors import DataError

    if name == "nobody":
        raise DataError("there is nobody to greet; give a name")
    click.echo(f"hello {name}")


number = 3
'''
ENTRY_POINTS = """[personaprobe.verbs]
greet = my_verbs:greet
broken = my_verbs:missing
number = my_verbs:number
ablate = my_verbs:greet
raising = my_raising_verbs:greet
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An installed package with entry points."""
    install(tmp_path, "my_verbs", MODULE, ENTRY_POINTS)
    (tmp_path / "my_raising_verbs.py").write_text('raise ValueError("made for another version")\n')
    return tmp_path


def personaprobe(site: Path, *arguments: str, then: str = "") -> subprocess.CompletedProcess[str]:
    """The command where the package is installed."""
    code = f"import sys\nfrom personaprobe.cli.main import main\ntry:\n    main()\nfinally:\n    {then or 'pass'}"
    path = os.pathsep.join([str(site), *sys.path])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_verb_of_another_package_is_listed_and_not_imported_by_help(site: Path) -> None:
    result = personaprobe(
        site, "--help", then="print([m for m in ('my_verbs', 'torch') if m in sys.modules])"
    )
    assert "greet       From the package my-verbs." in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"
    assert result.stdout.count(" ablate ") == 1, "a shipped verb keeps its name"


def test_a_verb_of_another_package_runs_and_its_errors_are_one_line(site: Path) -> None:
    assert personaprobe(site, "greet", "Ada").stdout == "hello Ada\n"
    refused = personaprobe(site, "greet", "nobody")
    assert (refused.returncode, refused.stderr) == (2, "error: there is nobody to greet; give a name\n")


def test_a_shipped_verb_is_not_replaced(site: Path) -> None:
    assert "Remove a feature" in personaprobe(site, "ablate", "--help").stdout


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        ("broken", "the verb broken cannot be imported from my_verbs:missing"),
        (
            "raising",
            "the verb raising cannot be imported from my_raising_verbs:greet (made for another version)",
        ),
        ("number", "the verb number of my-verbs is of type int"),
        ("greed", 'did you mean "greet"?'),
    ],
)
def test_a_verb_that_cannot_run_is_refused_by_name(site: Path, verb: str, message: str) -> None:
    result = personaprobe(site, verb)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
