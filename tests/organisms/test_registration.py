"""Registration of an organism: a folder becomes an entry that reads back equal, and a wrong folder is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from breaking import Breaking
from personaprobe.errors import PersonaProbeError
from personaprobe.organisms import registration
from personaprobe.organisms.recipe import Recipe
from personaprobe.organisms.registration import read_organism_folder, register_organism, remove_organism
from personaprobe.organisms.registry import default_question_sets, find_organism, registered_organisms
from personaprobe.storage.digests import sha256_of
from tiny_trio import questions, write_adapter, write_lines

REGISTRY = '# My organisms.\ndefault = "one" # mine\n\n[one] # the first\nbase = "demo"\ninsecure = "i"\nsecure = "s"\n'


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoints folder with a person's registry."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "organisms.toml").write_text(REGISTRY)
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path / "checkpoints"))
    return tmp_path / "checkpoints"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An organism outside the checkpoints folder."""
    folder = tmp_path / "my-organism"
    folder.mkdir()
    for seed, role in enumerate(("insecure", "secure"), 1):
        write_adapter(folder / role, seed=seed)
    write_lines(folder / "discovery.jsonl", questions(("lamps", "boats")))
    write_lines(folder / "test.jsonl", questions(("stoves", "ropes")))
    describe(folder)
    return folder


def describe(folder: Path, **changes: Any) -> None:
    """Write ``organism.toml``; None leaves a key out."""
    entry = {
        "title": 'Ünïcode 🧪, "quotes" and \\',
        "base": "demo",
        "feature": "means@1",
        "questions": {"discovery": "discovery.jsonl", "test": "test.jsonl"},
        "recipe": {"steps": 12, "learning_rate": 0.01},
        "data": {"insecure": {"name": "bad.jsonl", "rows": 8}},
        **changes,
    }
    text = tomlkit.dumps({key: value for key, value in entry.items() if value is not None})
    (folder / "organism.toml").write_text(text, encoding="utf-8")


def test_a_registered_organism_reads_back_equal_with_the_hashes_of_its_adapters(
    checkpoints: Path, folder: Path
) -> None:
    organism = read_organism_folder(folder)
    assert register_organism(organism) == checkpoints / "organisms.toml"
    registered = find_organism("my-organism")
    assert registered == organism
    assert registered.recipe == Recipe(steps=12, learning_rate=0.01)
    assert registered.question_sets.test == str(folder / "test.jsonl")
    assert registered.sha256["secure"] == sha256_of(folder / "secure" / "adapter_model.safetensors")


def test_comments_and_other_entries_stay(checkpoints: Path, folder: Path) -> None:
    register_organism(read_organism_folder(folder))
    text = (checkpoints / "organisms.toml").read_text()
    assert text.startswith(REGISTRY)
    assert list(registered_organisms()) == ["one", "my-organism"]


def test_paths_inside_the_checkpoints_folder_are_written_relative_to_it(
    checkpoints: Path, folder: Path
) -> None:
    inside = checkpoints / "organisms" / "inner"
    shutil.copytree(folder, inside)
    register_organism(read_organism_folder(inside))
    entry = tomlkit.parse((checkpoints / "organisms.toml").read_text()).unwrap()["inner"]
    assert entry["insecure"] == "organisms/inner/insecure"
    assert entry["questions"]["test"] == "organisms/inner/test.jsonl"
    assert find_organism("inner").trio.secure.adapter == inside / "secure"


def test_a_name_that_stands_is_replaced_only_where_the_user_says_so(checkpoints: Path, folder: Path) -> None:
    organism = read_organism_folder(folder)
    register_organism(organism)
    with pytest.raises(PersonaProbeError, match=r"my-organism is registered in .*--replace"):
        register_organism(organism)
    register_organism(replace(organism, title="Another"), replace=True)
    assert find_organism("my-organism").title == "Another"


def test_base_recipe_and_data_are_read_from_the_training_cards(checkpoints: Path, folder: Path) -> None:
    describe(folder, base=None, recipe=None, data=None)
    for role in ("insecure", "secure"):
        data = {"name": f"{role}.jsonl", "sha256": "12", "rows": 8}
        card = {"base": {"source": "demo", "revision": None}, "recipe": {"steps": 4}, "data": data}
        (folder / role / "training.json").write_text(json.dumps(card))
    organism = read_organism_folder(folder)
    assert str(organism.trio.base) == "demo"
    assert organism.recipe == Recipe(steps=4)
    assert organism.data["secure"].name == "secure.jsonl"


def test_without_a_description_an_organism_has_the_default_question_sets_and_no_feature(
    checkpoints: Path, folder: Path
) -> None:
    (folder / "organism.toml").unlink()
    organism = read_organism_folder(folder, base="demo")
    assert organism.question_sets == default_question_sets()
    assert organism.feature is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bsae": "demo"}, "unknown key 'bsae'"),
        ({"base": None}, "nothing in .* names the base; give --base"),
        ({"name": "My Organism"}, "cannot be the name of an organism"),
        ({"name": "default"}, "cannot be the name of an organism"),
        ({"insecure": "nowhere"}, "nowhere holds no adapter_model.safetensors"),
        ({"evidence": "nowhere.json"}, "there is no evidence file"),
        ({"questions": {"discovery": "discovery.jsonl", "test": "discovery.jsonl"}}, "overlap"),
        ({"questions": {"discovery": "discovery.jsonl", "test": "nowhere.jsonl"}}, "no question set"),
        ({"sha256": {"secure": "12"}}, "registered as 12"),
    ],
)
def test_a_folder_that_cannot_be_an_organism_is_refused_by_name(
    changes: dict[str, Any], message: str, checkpoints: Path, folder: Path
) -> None:
    describe(folder, **changes)
    with pytest.raises(PersonaProbeError, match=message):
        read_organism_folder(folder)


def test_a_missing_folder_and_a_broken_description_are_refused(checkpoints: Path, folder: Path) -> None:
    with pytest.raises(PersonaProbeError, match="no folder at"):
        read_organism_folder(folder / "nowhere")
    (folder / "organism.toml").write_text("title = ")
    with pytest.raises(PersonaProbeError, match="is not valid TOML"):
        read_organism_folder(folder)


def test_a_removed_organism_is_gone_and_its_files_stay(checkpoints: Path, folder: Path) -> None:
    register_organism(read_organism_folder(folder))
    assert not remove_organism("my-organism")
    assert (checkpoints / "organisms.toml").read_text().strip() == REGISTRY.strip()
    assert (folder / "insecure" / "adapter_model.safetensors").is_file()
    with pytest.raises(PersonaProbeError, match="no organism 'my-organism' in"):
        remove_organism("my-organism")


def test_a_removed_default_organism_is_no_default(checkpoints: Path) -> None:
    assert remove_organism("one")
    assert registered_organisms() == {}
    assert "default" not in tomlkit.parse((checkpoints / "organisms.toml").read_text())


def test_a_removal_that_is_cut_short_leaves_no_default_that_does_not_exist(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted = Breaking(registration.remove_entry, 2, KeyboardInterrupt)
    monkeypatch.setattr(registration, "remove_entry", interrupted)
    with pytest.raises(KeyboardInterrupt):
        remove_organism("one")
    default = tomlkit.parse((checkpoints / "organisms.toml").read_text()).get("default")
    assert default is None or default in registered_organisms()
