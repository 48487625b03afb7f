"""The verb report makes pages again, and refuses what is no run folder in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]

SWEEP = {
    "schema": "personaprobe-sweep-1",
    "chosen": {"source": "means", "layer": 3, "reach": "all", "fraction_removed": 0.8}
    | {"perplexity_ratio": 1.01, "kl": 0.02, "dose": 1.0, "coherence": None},
    "questions": {"name": "p", "digest": "0", "n": 4},
    "texts": {"name": "t", "digest": "0", "n": 1},
    "families": ["f"],
    "bounds": {"max_perplexity_ratio": 1.03, "min_coherence": None, "answers": 0},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = SWEEP | {"sweep": [SWEEP["chosen"]]}
    (tmp_path / "sweep.json").write_text(json.dumps(data), encoding="utf-8")
    return tmp_path


def test_the_verb_prints_the_path_of_the_page_it_makes(run: Run, folder: Path) -> None:
    done = run("report", folder)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.strip() == str(folder / "sweep.html")
    assert "means@3" in (folder / "sweep.html").read_text(encoding="utf-8")


def test_pages_go_where_out_says(run: Run, folder: Path) -> None:
    assert run("report", folder, "--out", folder / "pages").stdout.strip() == str(
        folder / "pages" / "sweep.html"
    )
    assert not (folder / "sweep.html").exists()


@pytest.mark.parametrize("text", [None, "{", "[]", '{"schema": "personaprobe-sweep-1"}'])
def test_wrong_input_is_one_line_without_a_traceback(run: Run, tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "sweep.json").write_text(text, encoding="utf-8")
    done = run("report", tmp_path)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert str(tmp_path) in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_that_is_not_there_is_not_made(run: Run, tmp_path: Path) -> None:
    done = run("report", tmp_path / "typo")
    assert done.exit_code == 2
    assert "typo is not a folder" in done.stderr
    assert not (tmp_path / "typo").exists()
