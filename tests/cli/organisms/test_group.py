"""``personaprobe organisms list`` and ``show``: what is registered, what can be trained, and what was measured of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.conftest import refused
from personaprobe.organisms.named_recipes import named_recipes
from personaprobe.storage.folders import checkpoints_folder, shipped_checkpoints_folder

if TYPE_CHECKING:
    from click.testing import Result

Run = Callable[..., "Result"]


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The registry that comes with the package."""
    monkeypatch.delenv("PERSONAPROBE_CHECKPOINTS")
    return shipped_checkpoints_folder()


def test_organisms_are_listed_with_the_state_of_their_files(registered: Path, run: Run) -> None:
    assert "as registered" in run("organisms", "list").stdout
    (registered / "secure" / "adapter_model.safetensors").write_bytes(b"x")
    assert "registered as" in json.loads(run("organisms", "list", "--json").stdout)[0]["files"]


def test_recipes_are_listed_beside_organisms_with_the_shifts_of_the_gallery(shipped: Path, run: Run) -> None:
    rows = {row["name"]: row for row in json.loads(run("organisms", "list", "--json").stdout)}
    assert rows.keys() >= {"advice", *named_recipes()}
    members = json.loads((shipped / "gallery.json").read_text(encoding="utf-8"))["members"]
    measured = {member["name"]: member["shifts"] for member in members}
    assert {"advice", "medicine", "code"} <= measured.keys()
    assert {name: row["shifts"] for name, row in rows.items()} == {
        name: measured.get(name, {}) for name in rows
    }
    shown = run("organisms", "list").stdout
    assert "a recipe" in shown
    assert "as registered" in shown


def test_a_registry_without_a_gallery_lists_no_shift(registered: Path, run: Run) -> None:
    rows = json.loads(run("organisms", "list", "--json").stdout)
    assert all(row["shifts"] == {} for row in rows)


@pytest.mark.parametrize(
    "content", ["{}", '{"members": 3}', '{"members": [{"name": "a", "shifts": {"test": 1}}]}']
)
def test_a_gallery_that_is_none_is_refused_by_its_path(registered: Path, content: str, run: Run) -> None:
    (checkpoints_folder() / "gallery.json").write_text(content)
    assert "gallery.json is no gallery" in refused(run("organisms", "list"))


def test_an_organism_is_shown_with_its_data_and_recipe(shipped: Path, run: Run) -> None:
    card = json.loads(run("organisms", "show", "advice", "--json").stdout)
    assert card["data"]["insecure"]["rows"] == 7049
    assert card["recipe"]["rank"] == 8
    assert card["questions"]["test"] == "advice/test"
    assert "insecure: name bad_medical_advice.jsonl.gz, sha256" in run("organisms", "show", "advice").stdout


def test_a_recipe_is_shown_with_the_command_that_trains_it(run: Run) -> None:
    shown = run("organisms", "show", "thinned").stdout
    assert "train: personaprobe organisms train thinned" in shown
    assert "25 % harmful" in shown


def test_an_unknown_organism_is_refused_with_the_nearest(run: Run) -> None:
    assert 'did you mean "medicine"' in refused(run("organisms", "show", "medecine"))
