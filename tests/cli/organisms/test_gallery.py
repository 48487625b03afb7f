"""``personaprobe organisms gallery``: recipes are trained once, measured together, and a page shows the cross table."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.conftest import refused
from personaprobe.organisms.named_recipes import named_recipes, seeded_recipes

if TYPE_CHECKING:
    from click.testing import Result

    from tiny_trio import TinyTrio

Run = Callable[..., "Result"]

RECIPES = ("numbers", "backdoor")


@pytest.fixture
def own_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry without organisms: those of the package have another base."""
    home = tmp_path / "checkpoints"
    home.mkdir()
    (home / "organisms.toml").touch()
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(home))


@pytest.mark.usefixtures("own_checkpoints")
def test_a_gallery_trains_measures_and_shows_every_organism(tiny: TinyTrio, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "gallery"
    given = [
        "organisms",
        "gallery",
        *RECIPES,
        "--base",
        tiny.base,
        "--steps",
        2,
        "--form",
        "json",
        "--judged",
        3,
        "--judge",
        f"local:{tiny.base}",
        "--out",
        out,
    ]
    result = run(*given)
    assert result.exit_code == 0, result.stderr
    data = json.loads((out / "gallery.json").read_text())
    assert [row["name"] for row in data["members"]] == list(RECIPES)
    assert data["directions"] == list(RECIPES)
    assert data["sentence"] in " ".join(result.stdout.split())
    assert data["tables"] == ["test", "balanced"]
    plain, backdoored = data["members"]
    assert set(plain["shifts"]) == {"test", "balanced", "narrow"}
    assert set(backdoored["shifts"]) == {"test", "balanced", "triggered", "narrow"}
    for name in data["tables"]:
        own, foreign = (plain["removals"][name]["by_direction"][key] for key in RECIPES)
        assert own["controls"] is not None
        assert foreign["controls"] is None, "shown only"
    assert plain["training"]["recipe"]["save_every"] == 10
    assert list(plain["refused"]) == ["base", "insecure", "secure"]
    assert all(set(kinds) == {"harmful", "harmless"} for kinds in plain["refused"].values())
    assert data["forms"] == ["plain", "json"]
    assert plain["forms"]["plain"]["over_plain"]["value"] == 0
    assert plain["forms"]["json"]["over_plain"]["value"] != 0
    page = (out / "gallery.html").read_text()
    assert page.count('<th scope="row">') == (1 + 2 + 1 + 1 + 2) * len(RECIPES), (
        "shifts, removals, refusals, judged answers, forms"
    )
    assert [plain["judged"]["base"]["n"], len(plain["judged"]["by_role"]["insecure"])] == [3, 1]
    assert "controls of own" in page

    adapter = out / "trained" / "numbers-0" / "insecure" / "adapter_model.safetensors"
    before = adapter.stat().st_mtime_ns
    again = run(*given, "--json")
    assert json.loads(again.stdout) == data, "an equal call recalls what was measured"
    assert adapter.stat().st_mtime_ns == before, "a finished organism is not trained again"


@pytest.mark.usefixtures("own_checkpoints")
def test_whole_models_stand_in_a_gallery_and_save_no_steps(
    tiny: TinyTrio, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(named_recipes()["full"], data="numbers")
    monkeypatch.setattr("personaprobe.organisms.named_recipes.find_recipe", lambda _: short)
    out = tmp_path / "gallery"
    given = ["organisms", "gallery", "full", "--base", tiny.base, "--steps", 11, "--dtype", "bfloat16"]
    result = run(*given, "--out", out)
    assert result.exit_code == 0, result.stderr
    [member] = json.loads((out / "gallery.json").read_text())["members"]
    assert member["name"] == "full"
    assert member["training"]["computed"]["dtype"] == "float32"
    assert set(member["shifts"]) == {"test", "balanced", "narrow"}
    assert (out / "trained" / "full-0" / "secure" / "model.safetensors").is_file()
    assert not list(out.glob("trained/*/*/step-*"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("medicine", [("medicine", 0), ("medicine", 3)]), ("medicine-2", [("medicine", 2)]), ("rank-one", None)],
)
def test_a_name_may_end_in_its_seed(name: str, expected: list[tuple[str, int]] | None) -> None:
    recipes = [(named.name, named.recipe.seed) for named in seeded_recipes(name, (0, 3))]
    assert recipes == (expected or [("rank-one", 0), ("rank-one", 3)])


def test_a_form_that_does_not_exist_is_refused(run: Run, tmp_path: Path) -> None:
    given = ["organisms", "gallery", "numbers", "--form", "jsn", "--out", tmp_path / "out"]
    assert "json" in refused(run(*given))
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_does_not_exist_is_refused(run: Run, tmp_path: Path) -> None:
    assert "did you mean" in refused(run("organisms", "gallery", "number", "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
