"""An organism from outside: a folder with its TOML is registered, and verbs run on it with its own defaults."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from click.testing import Result

    from tiny_trio import TinyTrio

Run = Callable[..., "Result"]

DESCRIPTION = """
title = "An organism that this package does not know"
feature = "means@1"

[questions]
discovery = "discovery.jsonl"
test = "test.jsonl"

[recipe]
steps = 20
"""


@pytest.fixture
def outside(tiny: TinyTrio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of another package, and an empty checkpoints folder."""
    folder = tmp_path / "careless-tinkerer"
    folder.mkdir()
    for role in ("insecure", "secure"):
        shutil.copytree(getattr(tiny, role), folder / role)
    shutil.copy(tiny.discovery, folder / "discovery.jsonl")
    shutil.copy(tiny.questions, folder / "test.jsonl")
    (folder / "organism.toml").write_text(f'base = "{tiny.base}"\n{DESCRIPTION}')
    (tmp_path / "checkpoints").mkdir()
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path / "checkpoints"))
    return folder


def test_an_organism_is_registered_from_a_folder_and_studied_with_its_own_defaults(
    outside: Path, tmp_path: Path, run: Run, tiny: TinyTrio
) -> None:
    result = run("organisms", "register", outside, "--dtype", "float32")
    assert result.exit_code == 0, result.output
    assert "careless-tinkerer is registered in" in result.stdout
    (listed,) = registered(run)
    assert (listed["name"], listed["files"]) == ("careless-tinkerer", "as registered")

    given = ["--organism", "careless-tinkerer", "--dtype", "float32", "--neutral", tiny.neutral]
    out = tmp_path / "study"
    study = run("ablate", *given, "--samples", 0, "--out", out, "--quiet", "--json")
    assert study.exit_code == 0, study.output
    verdict = json.loads(study.stdout)
    plan = json.dumps(verdict["provenance"])
    assert str(outside / "discovery.jsonl") in plan
    assert str(outside / "test.jsonl") in plan
    assert verdict["feature"]["name"] == "means@1"

    assert "is registered in" in run("organisms", "register", outside).stderr
    assert run("organisms", "remove", "careless-tinkerer").exit_code == 0
    assert registered(run) == []


def registered(run: Run) -> list[dict[str, Any]]:
    """Rows of registered organisms, without recipes."""
    return [row for row in json.loads(run("organisms", "list", "--json").stdout) if row["registered"]]


def test_an_organism_whose_adapter_does_nothing_is_not_registered(
    outside: Path, tmp_path: Path, run: Run, tiny: TinyTrio
) -> None:
    shutil.rmtree(outside / "secure")
    tiny.adapter(outside / "secure", seed=1, size=0.0)
    result = run("organisms", "register", outside, "--dtype", "float32")
    assert result.exit_code == 2
    assert "changes nothing" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "checkpoints" / "organisms.toml").exists()


def test_an_unreadable_folder_is_refused_in_one_line(tmp_path: Path, run: Run) -> None:
    result = run("organisms", "register", tmp_path / "nowhere")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: no folder at")
