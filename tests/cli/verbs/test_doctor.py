"""``personaprobe doctor``: what it passes, and what it reports as broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli.conftest import refused
from personaprobe.studies.planted import self_test
from personaprobe.studies.planted.self_test import TruthResult
from personaprobe.studies.planted.truths import TRUTHS
from studies.conftest import a_study
from tiny_trio import TinyTrio

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
    from personaprobe.models.weights.packaged import DEMO_MODEL

    monkeypatch.setenv("PERSONAPROBE_HOME", str(tmp_path))
    (tmp_path / "models" / DEMO_MODEL.folder_name).mkdir(parents=True)
    (tmp_path / "models" / DEMO_MODEL.folder_name / "model.safetensors").write_bytes(b"damaged")
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


def test_doctor_names_what_killed_runs_left_and_removes_it_on_request(
    tmp_path: Path, registered: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    from personaprobe.storage.leftovers import temporary_file, temporary_folder

    monkeypatch.setenv("PERSONAPROBE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for folder in ("home/stores", "runs/ablate/parts"):
        (tmp_path / folder).mkdir(parents=True)
    live = temporary_folder(tmp_path / "home" / "stores" / "abc")
    gone = temporary_folder(tmp_path / "home" / "stores" / "def")
    (gone / "shard").write_bytes(bytes(2_000_000))
    part, entry = (temporary_file(tmp_path / name) for name in ("runs/ablate/parts/x.json", "features.toml"))
    for path in (gone, part, entry):
        os.utime(path, (0, 0))  # written before this process started: another one had its number
    rows = [row for row in json.loads(run("doctor", "--fast", "--json").stdout) if "partial" in row["told"]]
    assert [(row["what"], row["state"]) for row in rows].count(("leftover", "warn")) == 3
    assert [row["told"].split(":")[0] for row in rows if row["state"] == "ok"] == [str(live)]
    assert f"{gone}: 2 MB" in next(row["told"] for row in rows if str(gone) in row["told"])
    cleaned = run("doctor", "--clean", "--json")
    assert (cleaned.exit_code, len(json.loads(cleaned.stdout))) == (0, 4)
    assert [path.exists() for path in (live, gone, part, entry)] == [True, False, False, False]
    live.rmdir()
    assert "none" in run("doctor", "--clean").stdout


def planted(
    monkeypatch: pytest.MonkeyPatch, *verdicts: str | None, sees: Callable[..., object] = lambda *_: None
) -> None:
    """Let the self-test give some verdicts in place of its studies; None ends with an error."""
    of_study = a_study()

    def results(base: Any, plan: Any, folder: Path, **settings: Any) -> Iterator[TruthResult]:
        sees(base, plan)
        for truth, verdict in zip(TRUTHS, verdicts, strict=False):
            conclusion = replace(of_study.conclusion, verdict=verdict or "underpowered")
            whole = replace(of_study, conclusion=conclusion)
            yield TruthResult(truth, None, "no room") if verdict is None else TruthResult(truth, whole)

    monkeypatch.setattr(self_test, "self_test", results)


def test_a_setup_that_finds_what_was_planted_passes(
    tiny: TinyTrio, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    planted(monkeypatch, "no effect to remove", "suppresses", sees=lambda *given: seen.append(given))
    result = run("doctor", "--study", "--base", tiny.base, "--seed", 3, "--dtype", "float32")
    assert result.exit_code == 0
    assert "tells all 2 planted truths apart" in result.stdout
    [(base, plan)] = seen
    assert (base.checkpoint.source, plan.studies.seed) == (str(tiny.base), 3)


def test_a_setup_that_misses_a_truth_ends_with_3_and_names_it(
    tiny: TinyTrio, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, "no effect to remove", "not specific", None)
    result = run("doctor", "--study", "--base", tiny.base)
    assert result.exit_code == 3
    assert "does not tell 2 of 3 planted truths apart" in result.stdout
    assert f"- {TRUTHS[1].name}" in result.stdout
    assert "no room" in result.stdout


def test_the_truths_are_plain_data_with_json(
    tiny: TinyTrio, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, "no effect to remove", "overshoots")
    result = run("doctor", "--study", "--base", tiny.base, "--json", "--quiet")
    data = json.loads(result.stdout)
    assert result.exit_code == 3
    assert data["passed"] is False
    assert [row["passed"] for row in data["truths"]] == [True, False]
    assert data["truths"][1]["expected"] == ["suppresses"]
    assert data["truths"][1]["verdict"] == "overshoots"


@pytest.mark.parametrize("alone", [("--base", "demo"), ("--seed", "3"), ("--dtype", "float32")])
def test_options_of_the_study_are_refused_without_it(run: Run, alone: tuple[str, str]) -> None:
    assert "--study" in refused(run("doctor", *alone))
