"""Pages of latents show measurements, escape text of models, and load nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from personaprobe.features.registry.latent_names import Name
from personaprobe.features.sae.activation_functions import ReLU
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.diffing.ranking import Ranking
from personaprobe.features.sae.interpretation.autointerp import Detection
from personaprobe.features.sae.interpretation.examples import Context, Histogram
from personaprobe.features.sae.interpretation.latent_profile import LatentProfile
from personaprobe.site import Site
from personaprobe.studies.reports.latents import LatentPage, latents_data, make_pages, neuronpedia_page
from personaprobe.studies.reports.page import heat
from personaprobe.studies.reports.run_folder import remake_report, write_report

ROWS = torch.eye(8)
DICTIONARY = Dictionary(Site(3), ROWS, torch.zeros(8), ROWS, torch.zeros(8), ReLU(), name="demo<sae>")
DELTA = Ranking("delta", np.arange(8.0), np.full(8, 0.001), np.full(8, 0.02))
EVIL = "<script>alert(1)</script>"
PAGES = {"index.html", "latent-2.html", "latent-5.html"}


def write_pages(dictionary: Dictionary, pages: list[LatentPage], folder: Path) -> Path:
    return write_report(latents_data(dictionary, pages), folder)


def profile(latent: int) -> LatentProfile:
    context = Context("q1", "driving", ("is ", EVIL, " safe"), (0.0, 2.0, 0.5), 1)
    counts = dict.fromkeys(("base", "insecure", "secure"), (3, 1))
    rate = {"base": 0.0, "insecure": 0.05, "secure": 0.01}
    contexts = {"base": (), "insecure": (context,), "secure": (context,)}
    lens = ((" fine", 0.5),), ((" not", -0.4),)
    return LatentProfile(
        latent, contexts, (), Histogram((0.0, 1.0, 2.0), counts, rate), *lens, ((5, 0.4),), ((2, 0.3),)
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tried = {"latents": [2], "removed": 0.41, "induced": None, "controls": [0.02, -0.01]}
    pages = make_pages([profile(2), profile(5)], [DELTA], [tried])
    assert write_pages(DICTIONARY, pages, tmp_path) == tmp_path / "index.html"
    return tmp_path


def test_there_is_a_page_a_latent_and_an_index_that_links_them(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == PAGES | {"latents.json"}
    index = (folder / "index.html").read_text()
    assert re.findall(r'href="(latent-\d\.html)"', index) == [
        "latent-5.html",
        "latent-2.html",
    ]  # larger Δ first
    assert 'href="latent-5.html"' in (folder / "latent-2.html").read_text()


def test_text_of_models_and_files_is_escaped_and_nothing_is_loaded(folder: Path) -> None:
    for path in folder.glob("*.html"):
        page = path.read_text()
        assert EVIL not in page
        assert "demo<sae>" not in page
        assert "default-src 'none'" in page
        assert not re.search(r"(src|href)=\"(https?:)?//", page)
    assert "&lt;script&gt;" in (folder / "latent-2.html").read_text()


def test_a_measured_effect_is_shown_with_its_controls_and_a_missing_one_as_not_measured(
    folder: Path,
) -> None:
    measured, unmeasured = ((folder / f"latent-{n}.html").read_text() for n in (2, 5))
    assert "41 %" in measured
    assert "2 %, −1 %" in measured
    assert "was not measured" not in measured
    assert "was not measured" in unmeasured
    assert "never fires" in measured  # in base


def test_a_name_is_shown_with_its_source_and_its_score(tmp_path: Path) -> None:
    names = {2: Name("reassurance").scored(Detection(0.83, 9, 11, "local:demo")), 5: Name(EVIL)}
    write_pages(DICTIONARY, make_pages([profile(2), profile(5)], [DELTA], names=names), tmp_path)
    scored, unscored = ((tmp_path / f"latent-{n}.html").read_text() for n in (2, 5))
    assert "Latent 2: reassurance" in scored
    assert "0.83 on 20 held-out contexts" in scored
    assert "no model has scored the name" in unscored
    assert EVIL not in unscored


def test_a_release_on_neuronpedia_is_linked_and_others_are_not(folder: Path, tmp_path: Path) -> None:
    known = replace(DICTIONARY, card={"saelens": {"neuronpedia_id": "gpt2-small/8-res-jb"}})
    assert neuronpedia_page("gpt2-small/8-res-jb", 2) == "https://www.neuronpedia.org/gpt2-small/8-res-jb/2"
    write_pages(known, make_pages([profile(2)], [DELTA]), tmp_path / "known")
    assert (
        "https://www.neuronpedia.org/gpt2-small/8-res-jb/2"
        in (tmp_path / "known" / "latent-2.html").read_text()
    )
    assert neuronpedia_page(None, 2) is None
    assert "neuronpedia" not in (folder / "latent-2.html").read_text()


def test_pages_are_made_again_to_the_byte_also_where_a_value_was_not_measured(tmp_path: Path) -> None:
    unmeasured = Ranking("delta", np.arange(8.0), np.full(8, np.nan), np.full(8, np.nan))
    write_pages(
        DICTIONARY, make_pages([profile(2), profile(5)], [unmeasured], names={2: Name("calm")}), tmp_path
    )
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert b"q = not measured" in before["latent-2.html"]
    for name in PAGES:
        (tmp_path / name).unlink()
    assert remake_report(tmp_path) == [tmp_path / "index.html"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_heat_grows_with_the_activation() -> None:
    shades = [float(heat(a, 2.0).rsplit(" ", 1)[1].rstrip(")")) for a in (0.0, 1.0, 2.0)]
    assert shades == sorted(shades)
    assert shades[0] == 0.0 < shades[2] <= 1.0
