"""``personaprobe doctor``: what it passes, and what it reports as broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from click.testing import Result

Run = Callable[..., "Result"]


def test_doctor_passes_a_complete_checkpoints_folder(registered: Path, run: Run) -> None:
    result = run("doctor", "--fast", "--json")
    state_of = {row["what"]: row["state"] for row in json.loads(result.stdout)}
    assert state_of["files of tiny"] == state_of["cache"] == state_of["torch"] == "ok"
    assert result.exit_code == (3 if "fail" in state_of.values() else 0)


def test_doctor_ends_with_3_where_the_converted_model_is_damaged(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from personaprobe.models.weights.demo import NAME

    monkeypatch.setenv("PERSONAPROBE_HOME", str(tmp_path))
    (tmp_path / "models" / NAME).mkdir(parents=True)
    (tmp_path / "models" / NAME / "model.safetensors").write_bytes(b"damaged")
    result = run("doctor")
    assert result.exit_code == 3
    assert "delete" in result.stdout


def test_doctor_prints_the_size_of_the_cache(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONAPROBE_HOME", str(tmp_path))
    (tmp_path / "stores" / "abc").mkdir(parents=True)
    (tmp_path / "stores" / "abc" / "shard").write_bytes(bytes(2_000_000))
    assert "1 entries, 2 MB" in run("doctor", "--fast").stdout
