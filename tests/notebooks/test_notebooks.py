"""Notebooks: they run as committed, say the same as their scripts, and carry nothing of the machine they ran on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from personaprobe.effects.verdict import rules

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS)
def path(request: pytest.FixtureRequest) -> Path:
    return FOLDER / str(request.param)


@pytest.fixture
def notebook(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def cells(notebook: NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def test_a_notebook_says_the_same_as_its_script(path: Path, notebook: NotebookNode) -> None:
    assert cells(jupytext.read(path.with_suffix(".py"))) == cells(notebook), (
        f"run jupytext --sync notebooks/{path.name}"
    )
    assert notebook.metadata.jupytext.formats == "ipynb,py:percent"


def test_a_committed_notebook_holds_no_outputs(notebook: NotebookNode) -> None:
    ran = [c for c in notebook.cells if c.cell_type == "code" and (c.outputs or c.execution_count)]
    assert not ran, f"{len(ran)} cells hold outputs; clear them before committing"


@pytest.mark.parametrize("suffix", [".ipynb", ".py"])
def test_a_notebook_names_no_place_on_the_machine_it_was_written_on(path: Path, suffix: str) -> None:
    text = path.with_suffix(suffix).read_text(encoding="utf-8")
    leaks = [place for place in ("/home/", "/root/", "/Users/", "/work/", "/tmp/", "C:\\") if place in text]
    assert not leaks


@pytest.mark.real
def test_the_main_notebook_runs_to_a_verdict(tmp_path: Path) -> None:
    notebook = nbformat.read(FOLDER / "01_ablate_the_persona.ipynb", as_version=4)
    elsewhere = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=1200, kernel_name="python3", resources=elsewhere).execute()
    assert any(f"<b>{name}" in html for html in shown(notebook, "text/html") for name, _ in rules())
    assert len(shown(notebook, "application/vnd.plotly.v1+json")) == 6
    assert len(nbformat.writes(notebook)) < 1_000_000, "figures are data, and carry no script"
    assert list(tmp_path.iterdir()) == [], "a notebook leaves nothing behind"


def shown(notebook: NotebookNode, mime: str) -> list[Any]:
    """What the cells display, in one representation."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.data[mime] for output in outputs if mime in output.get("data", {})]
