"""The demo model's files: complete or absent, and converted once."""

from __future__ import annotations

from pathlib import Path

import pytest

from personaprobe.models.weights.demo import _move


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
