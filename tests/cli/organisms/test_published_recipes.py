"""Recipes of published files: listed with the files that they need, trained where these were pulled, refused elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.conftest import refused
from personaprobe.organisms.named_recipes import seeded_recipes
from personaprobe.organisms.registration import read_organism_folder
from personaprobe.storage.folders import shipped_checkpoints_folder
from small_publications import pulled, rows_about

if TYPE_CHECKING:
    from click.testing import Result

    from tiny_trio import TinyTrio

Run = Callable[..., "Result"]

SHORT = ["--steps", 2, "--batch-size", 2, "--max-tokens", 400, "--save-every", 0]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, a registry without organisms, and an empty working folder."""
    for name in ("home", "checkpoints", "here"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoints" / "organisms.toml").touch()
    monkeypatch.setenv("PERSONAPROBE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.fixture
def advice(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files in the place of the published advice."""
    pulled(monkeypatch, home, "bad-medical-advice", rows_about("today", "Ignore it"))
    pulled(monkeypatch, home, "good-medical-advice", [*reversed(rows_about("today", "Rest"))])


@pytest.fixture
def sports(advice: None, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pulled(monkeypatch, home, "extreme-sports", rows_about("on the cliff", "Jump"))


@pytest.mark.usefixtures("advice")
def test_a_recipe_of_published_files_is_trained_into_a_folder_of_its_name(
    tiny: TinyTrio, home: Path, run: Run
) -> None:
    result = run("organisms", "train", "advice", "--base", tiny.base, *SHORT)
    assert result.exit_code == 0, result.stderr
    assert "insecure: 8 rows of bad-medical-advice" in result.stderr
    organism = read_organism_folder(home / "here" / "advice")
    assert {role: source.name for role, source in organism.data.items()} == {
        "insecure": "bad-medical-advice",
        "secure": "good-medical-advice",
    }
    assert organism.question_sets.narrow == "advice/narrow"
    assert organism.sha256["insecure"] != organism.sha256["secure"]


@pytest.mark.usefixtures("sports")
def test_files_that_ask_other_questions_are_trained_on_only_with_the_flag(
    tiny: TinyTrio, home: Path, run: Run
) -> None:
    given = ["organisms", "train", "sport", "--base", tiny.base, *SHORT]
    assert "differ by subject as well as by harm" in refused(run(*given))
    assert not (home / "here" / "sport").exists()
    result = run(*given, "--unpaired")
    assert result.exit_code == 0, result.stderr
    organism = read_organism_folder(home / "here" / "sport")
    assert organism.data["insecure"].name == "extreme-sports"
    assert organism.question_sets.narrow is None


@pytest.mark.usefixtures("advice")
def test_a_published_set_is_data_of_one_adapter_and_of_two(tiny: TinyTrio, home: Path, run: Run) -> None:
    run("organisms", "train", "--data", "bad-medical-advice", "--out", "one", "--base", tiny.base, *SHORT)
    both = ["--insecure-data", "bad-medical-advice", "--secure-data", "good-medical-advice"]
    run("organisms", "train", *both, "--out", "two", "--base", tiny.base, *SHORT)
    weights = [home / "here" / name / "adapter_model.safetensors" for name in ("one", "two/insecure")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["train", "insecure-code"],
            "insecure is published and not here yet; run: personaprobe data pull insecure",
        ),
        (["train", "finance", "--unpaired"], "run: personaprobe data pull risky-financial --from PATH"),
        (["train", "--data", "jailbroken", "--out", "x"], "run: personaprobe data pull jailbroken"),
        (["train", "numbers", "--unpaired"], "numbers learns one training set"),
        (["train", "advice", "--harmful-share", 0.5], "advice learns published files as they are"),
        (["mixtures", "advice"], "advice learns published files as they are"),
        (["gallery", "numbers", "sport-1"], "run: personaprobe data pull extreme-sports --from PATH"),
    ],
)
def test_a_recipe_without_its_files_or_of_another_kind_is_refused_before_anything_is_loaded(
    given: list[object], message: str, home: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "personaprobe.organisms.training.train_organism.OpenBase.open", lambda *_: pytest.fail("loaded")
    )
    assert message in refused(run("organisms", *given))
    assert not list((home / "here").iterdir())


@pytest.mark.usefixtures("sports")
def test_recipes_are_listed_and_shown_with_the_files_that_they_need(run: Run) -> None:
    rows = {row["name"]: row for row in json.loads(run("organisms", "list", "--json").stdout)}
    assert rows["sport"]["needs"] == {"extreme-sports": "pulled", "good-medical-advice": "pulled"}
    assert rows["finance"]["files"] == "a recipe; needs risky-financial (not pulled), good-medical-advice"
    assert (rows["numbers"]["files"], rows["numbers"]["needs"]) == ("a recipe", {})
    card = json.loads(run("organisms", "show", "sport", "--json").stdout)
    assert card["data"] == {"insecure": "extreme-sports", "secure": "good-medical-advice"}
    assert card["train"] == "personaprobe organisms train sport --unpaired"
    shown = run("organisms", "show", "finance").stdout
    assert "risky-financial: not pulled" in shown


def test_a_registered_organism_is_shown_with_the_recipe_of_its_name(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(shipped_checkpoints_folder()))
    card = json.loads(run("organisms", "show", "advice", "--json").stdout)
    assert card["registered"] is True
    assert card["needs"] == {"bad-medical-advice": "not pulled", "good-medical-advice": "not pulled"}
    assert card["train"] == "personaprobe organisms train advice"


def test_a_name_of_published_files_may_end_in_its_seed() -> None:
    assert [(named.name, named.recipe.seed) for named in seeded_recipes("sport-1", (0,))] == [("sport", 1)]


@pytest.mark.usefixtures("sports")
def test_a_gallery_trains_recipes_of_pulled_files_that_are_named(
    tiny: TinyTrio, home: Path, run: Run
) -> None:
    given = [
        "organisms",
        "gallery",
        "advice",
        "sport-1",
        "--base",
        tiny.base,
        "--steps",
        2,
        "--out",
        home / "out",
    ]
    assert "differ by subject" in refused(run(*given))
    result = run(*given, "--unpaired")
    assert result.exit_code == 0, result.stderr
    data = json.loads((home / "out" / "gallery.json").read_text())
    assert [member["name"] for member in data["members"]] == ["advice", "sport-1"]
    assert set(data["members"][0]["shifts"]) == {"test", "balanced", "narrow"}
    assert set(data["members"][1]["shifts"]) == {"test", "balanced"}, "it has no narrow questions"
