"""The demo model's files: complete or absent, and converted once."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from personaprobe.models.weights.demo import _convert, _move


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
            _convert(tmp_path / "model.gguf", tmp_path / "models" / "demo")
        except Exception as error:
            failures.append(error)

    runs = [threading.Thread(target=convert) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(30)
    assert failures == []
    assert [entry.name for entry in (tmp_path / "models").iterdir()] == ["demo"]
