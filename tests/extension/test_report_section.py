"""A package from outside adds a section to a page: by a registration call, or by an entry point."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

import personaprobe as pp
from installing import install
from personaprobe.errors import DataError, FallbackWarning
from personaprobe.studies.reports import sections
from personaprobe.studies.reports.run_folder import remake_report, write_report
from personaprobe.studies.reports.sections import ReportSection

CHOSEN = {"source": "means", "layer": 3, "reach": "all", "fraction_removed": 0.8, "kl": 0.02}
CHOSEN |= {"perplexity_ratio": 1.01, "dose": 1.0, "coherence": None}
SWEEP = {
    "schema": "personaprobe-sweep-1",
    "chosen": CHOSEN,
    "sweep": [CHOSEN],
    "questions": {"name": "p", "digest": "0", "n": 4},
    "bounds": {"max_perplexity_ratio": 1.03, "min_coherence": None, "answers": 0},
}

PACKAGE = """
from markupsafe import Markup, escape
from personaprobe.studies.reports.sections import ReportSection

def layers(data, answers):
    return Markup("<p>Layers tried: {}</p>").format(sorted({cell["layer"] for cell in data["sweep"]}))

section = ReportSection("Layers", layers, frozenset({"sweep"}))
"""
ENTRY_POINTS = "[personaprobe.report_sections]\nlayers = their_sections:{name}\n"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sections, "_REGISTERED", {})
    yield
    sys.modules.pop("their_sections", None)


def offer(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package that offers one of its values as a section."""
    install(folder, "their_sections", PACKAGE, ENTRY_POINTS.format(name=name))
    monkeypatch.syspath_prepend(folder)


def test_a_registered_section_appears_in_its_page(tmp_path: Path) -> None:
    def count(data: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]) -> str:
        return f"{len(data['sweep'])} direction < 2"

    pp.register_section(pp.ReportSection("How many", count, frozenset({"sweep"})))
    page = write_report(SWEEP, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert "<h2>How many</h2>" in text
    assert "1 direction &lt; 2" in text, "text is escaped"
    assert remake_report(tmp_path)[0].read_text(encoding="utf-8") == text


def test_a_section_of_an_installed_package_appears_in_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(tmp_path, "section", monkeypatch)
    text = write_report(SWEEP, tmp_path / "run").read_text(encoding="utf-8")
    assert "<h2>Layers</h2>" in text
    assert "<p>Layers tried: [3]</p>" in text, "markup is inserted as it is"


def test_an_entry_point_that_is_no_section_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(tmp_path, "layers", monkeypatch)
    with pytest.raises(DataError, match=r"'layers' of personaprobe\.report_sections is a function"):
        write_report(SWEEP, tmp_path / "run")


def test_sections_stand_in_the_order_of_their_titles_and_only_in_their_pages(tmp_path: Path) -> None:
    for title, page in (("b", "sweep"), ("a", "sweep"), ("c", "ablation"), ("", "sweep")):
        body = "" if not title else f"<i>{title}</i>"
        pp.register_section(ReportSection(title, lambda *_, body=body: Markup(body), frozenset({page})))  # type: ignore[misc, arg-type]
    text = write_report(SWEEP, tmp_path).read_text(encoding="utf-8")
    assert text.index("<h2>a</h2>") < text.index("<h2>b</h2>")
    assert "<i>c</i>" not in text
    assert "<h2></h2>" not in text, "an empty section is left out"


def test_a_section_that_fails_says_so_and_does_not_cost_the_page(tmp_path: Path) -> None:
    pp.register_section(ReportSection("Broken", lambda data, _: data["nothing"], frozenset({"sweep"})))
    with pytest.warns(FallbackWarning, match=r"'Broken'.*KeyError"):
        page = write_report(SWEEP, tmp_path)
    assert "could not be made: KeyError" in page.read_text(encoding="utf-8")


def test_a_section_that_cannot_be_imported_costs_no_page_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(tmp_path, "missing", monkeypatch)
    with pytest.warns(FallbackWarning, match="'layers' of their_sections:missing cannot be imported"):
        page = write_report(SWEEP, tmp_path)
    assert "their_sections:missing cannot be imported" in page.read_text(encoding="utf-8")
