"""Notebooks: they run as committed, say the same as their scripts, and carry nothing of the machine they ran on."""

from __future__ import annotations

from pathlib import Path

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
    found = [place for place in ("/home/", "/root/", "/Users/", "/work/", "/tmp/", "C:\\") if place in text]
    assert not found


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> NotebookNode:
    """The main notebook as it was after running from top to bottom, once for all tests."""
    notebook = nbformat.read(FOLDER / "01_ablate_the_persona.ipynb", as_version=4)
    resources = {"metadata": {"path": str(tmp_path_factory.mktemp("elsewhere"))}}
    return NotebookClient(notebook, timeout=1200, kernel_name="python3", resources=resources).execute()


@pytest.mark.real
@pytest.mark.slow
def test_the_main_notebook_runs_to_a_verdict(executed: NotebookNode) -> None:
    shown = [
        output.data["text/html"]
        for cell in executed.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    verdicts = {name for name, _ in rules()}
    assert any(f"<b>{name}</b>" in html for html in shown for name in verdicts)


@pytest.mark.real
@pytest.mark.slow
def test_its_figures_are_data_and_not_scripts(executed: NotebookNode) -> None:
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    figures = [o for o in outputs if "application/vnd.plotly.v1+json" in o.get("data", {})]
    assert len(figures) == 5
    assert len(nbformat.writes(executed)) < 1_000_000
