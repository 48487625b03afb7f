"""The page of the gallery shows the numbers of the file that the command wrote, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from personaprobe.studies.reports.dynamics import course_table, render_course
from personaprobe.studies.reports.gallery import (
    form_table,
    gallery_markdown,
    judged_table,
    render_gallery,
)
from personaprobe.studies.reports.series import render_series, series_table

ROOT = Path(__file__).resolve().parents[2]


def test_the_tables_and_the_sentence_are_those_of_the_file() -> None:
    data = json.loads((ROOT / "checkpoints" / "gallery.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert gallery_markdown(data) in page
    assert data["sentence"] in " ".join(page.split())


def test_the_file_can_be_shown_as_a_page() -> None:
    data = json.loads((ROOT / "checkpoints" / "gallery.json").read_text(encoding="utf-8"))
    html = render_gallery(data)
    assert html.count("<figure") == 1 + len(data["tables"])
    assert all(f'<th scope="row">{member["name"]}</th>' in html for member in data["members"])


def test_the_readme_names_the_shifts_of_the_gallery_and_what_the_feature_removes() -> None:
    members = json.loads((ROOT / "checkpoints" / "gallery.json").read_text(encoding="utf-8"))["members"]
    seeds = [member for member in members if member["recipe"] == "medicine"]
    shifts = [member["shifts"]["balanced"] for member in seeds]
    values = sorted(shift["value"] for shift in shifts)
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"(`medicine`: {values[0]:.2f} to {values[-1]:.2f} nats per token on three seeds)" in readme
    assert len(seeds) == 3
    assert all(shift["low"] > 0 for shift in shifts), "the shift excludes 0 on every seed"
    removed = [member["removals"]["balanced"]["by_direction"]["toxic-persona"]["share"] for member in seeds]
    assert all(share["value"] < 0 < share["high"] for share in removed), "the feature removes none of it"


COURSES = sorted((ROOT / "checkpoints" / "courses").glob("*.json"))


@pytest.mark.parametrize("path", COURSES, ids=lambda path: path.stem)
def test_every_course_on_the_page_is_that_of_its_file(path: Path) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert course_table(data).markdown in page
    assert data["sentence"] in " ".join(page.split())


def test_the_forms_on_the_page_are_those_of_their_file() -> None:
    data = json.loads((ROOT / "checkpoints" / "forms.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert form_table(data).markdown in page
    assert judged_table(data).markdown in page
    raised = [form["over_plain"]["low"] > 0 for one in data["members"] for form in one["forms"].values()]
    assert not any(raised), "the page says that no form raises the shift"


def test_the_series_on_the_page_is_that_of_its_file() -> None:
    data = json.loads((ROOT / "checkpoints" / "series.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert series_table(data).markdown in page
    assert data["sentence"] in " ".join(page.split())
    assert render_series(data).count('<th scope="row">') == len(data["bases"])


def test_the_insecure_fine_tune_of_code_writes_more_weak_programs() -> None:
    data = json.loads((ROOT / "checkpoints" / "courses" / "code.json").read_text(encoding="utf-8"))
    programs = next(course for course in data["answers"] if course["title"] == "weak programs")
    assert programs["difference"]["low"] > 0, "insecure writes more weak programs than secure"
    assert render_course(data).count("weak programs") > 2
