"""Checkpoints have one digest exactly where they compute the same: weights, config, tokenizer, template, commit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.storage import digests


@pytest.fixture
def folder(tiny_model: Callable[..., Any], tmp_path: Path) -> Path:
    path = tmp_path / "model"
    tiny_model("llama").save_pretrained(path)
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    (path / "tokenizer.json").write_text("{}")
    (path / "chat_template.jinja").write_text("{{ messages }}")
    return path


def change_rope(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rope_theta": 5.0}))


def change_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


CHANGES: dict[str, Callable[[Path], Any]] = {
    "a weight": change_a_weight,
    "rope_theta": change_rope,
    "the template": lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }} "),
    "the tokenizer": lambda folder: (folder / "tokenizer.json").write_text('{"a": 1}'),
    "a special token": lambda folder: (folder / "tokenizer_config.json").write_text('{"eos_token": "<e>"}'),
    "where answers end": lambda folder: (folder / "generation_config.json").write_text('{"eos_token_id": 5}'),
    "another template": lambda folder: (folder / "tool_use.jinja").write_text("x"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_changes_the_results_changes_the_digest(folder: Path, name: str) -> None:
    before = Checkpoint(str(folder)).digest
    CHANGES[name](folder)
    assert Checkpoint(str(folder)).digest != before


def test_a_copy_elsewhere_and_other_files_change_nothing(folder: Path, tmp_path: Path) -> None:
    before = Checkpoint(str(folder)).digest
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("Trained on a Tuesday.")
    assert Checkpoint(str(tmp_path / "copy")).digest == before


def test_the_weights_alone_are_equal_whatever_the_template(folder: Path) -> None:
    before = Checkpoint(str(folder)).weights_digest
    CHANGES["the template"](folder)
    assert Checkpoint(str(folder)).weights_digest == before
    change_a_weight(folder)
    assert Checkpoint(str(folder)).weights_digest != before


def test_a_hub_id_stands_for_the_commit_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--lab--model"

    def move_main(commit: str) -> str:
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "config.json").write_text("{}")
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
        return Checkpoint("lab/model").digest

    digests = [move_main("a" * 40), move_main("b" * 40)]
    assert digests[0] != digests[1]
    assert Checkpoint("lab/model", "b" * 40).digest == digests[1]


def test_a_file_is_hashed_again_when_it_changed_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reads = tmp_path / "file", []
    whole = digests.hashlib.file_digest
    monkeypatch.setattr(digests.hashlib, "file_digest", lambda *a: reads.append(1) or whole(*a))
    path.write_text("one")
    assert digests.sha256_of(path) == digests.sha256_of(path)
    assert len(reads) == 1
    first = digests.sha256_of(path)
    path.write_text("two")
    assert digests.sha256_of(path) != first
