"""``personaprobe organisms watch``: every saved step of a training, measured with its held-out task."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from cli.conftest import refused
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.site import Site

if TYPE_CHECKING:
    from click.testing import Result

    from tiny_trio import TinyTrio

Run = Callable[..., "Result"]


@pytest.fixture
def trained(tiny: TinyTrio, tmp_path: Path, run: Run) -> Path:
    """An organism with three saved steps."""
    short = ["--steps", 3, "--batch-size", 2, "--max-tokens", 400, "--save-every", 1, "--learning-rate", 0.01]
    run(
        "organisms", "train", "numbers", "--out", tmp_path / "numbers", "--base", tiny.base, *short, "--quiet"
    )
    return tmp_path / "numbers"


def test_whole_models_are_watched_by_their_difference_from_base(
    tiny: TinyTrio, tmp_path: Path, run: Run
) -> None:
    short = ["--steps", 2, "--batch-size", 2, "--max-tokens", 400, "--save-every", 1, "--trained", "all"]
    out = tmp_path / "numbers"
    run("organisms", "train", "numbers", "--out", out, "--base", tiny.base, *short, "--quiet")
    data = json.loads(run(*given(tiny, out, "--json")).stdout)
    assert data["shift"]["steps"] == [0, 1, 2]
    base = load_file(tiny.base / "model.safetensors")
    tuned = load_file(out / "insecure" / "model.safetensors")
    energy = sum(float((tuned[name] - base[name]).square().sum()) for name in base)
    assert data["norms"]["insecure"][-1] == pytest.approx(energy**0.5, rel=1e-4)
    assert 0 < data["norms"]["insecure"][0] < data["norms"]["insecure"][1]


def given(tiny: TinyTrio, trained: Path, *more: object) -> list[object]:
    out = trained.with_name("watched")
    return [
        "organisms",
        "watch",
        trained,
        "--questions",
        tiny.questions,
        "--out",
        out,
        "--dtype",
        "float32",
        *more,
    ]


def test_every_saved_step_is_measured_and_the_last_is_the_whole_training(
    tiny: TinyTrio, trained: Path, run: Run
) -> None:
    data = json.loads(run(*given(tiny, trained, "--json")).stdout)
    assert data["shift"]["steps"] == data["skill"]["steps"] == [0, 1, 2, 3]
    values = [interval["value"] for interval in data["shift"]["intervals"]]
    assert values[0] == 0
    assert len(set(values)) == 4
    assert [len(of_role) for of_role in data["norms"].values()] == [3, 3]
    assert data["norms"]["insecure"] == sorted(data["norms"]["insecure"])
    direction = data["direction"]
    assert direction["projection"]["steps"] == [0, 1, 2, 3]
    assert direction["site"] == "2.resid_post"
    assert direction["cosines"][-1] == pytest.approx(1)
    assert direction["turning"][-1] is None
    assert len({*direction["lengths"]}) == 3
    shown = run(*given(tiny, trained)).stdout
    assert data["sentence"] in " ".join(shown.split())

    page = (trained.with_name("watched") / "watch.html").read_text()
    assert data["sentence"] in page
    assert "https://" not in page.split("<script>")[0]


def test_an_interrupted_watch_goes_on_from_its_finished_steps(
    tiny: TinyTrio, trained: Path, run: Run
) -> None:
    first = run(*given(tiny, trained, "--json")).stdout
    parts = sorted((trained.with_name("watched") / "parts").glob("*.json"))
    assert len(parts) == 12  # three steps, two fine-tunes, two sets of questions
    parts[0].unlink()
    assert run(*given(tiny, trained, "--json")).stdout == first


@pytest.mark.parametrize("lost", ["insecure/training.json", "secure/adapter_model.safetensors"])
def test_a_folder_that_lacks_a_file_is_refused(lost: str, tiny: TinyTrio, trained: Path, run: Run) -> None:
    (trained / lost).unlink()
    assert Path(lost).parts[0] in refused(run(*given(tiny, trained)))


def test_a_training_without_saved_steps_is_refused(tiny: TinyTrio, trained: Path, run: Run) -> None:
    for step in trained.glob("insecure/step-*"):
        shutil.rmtree(step)
    assert "--save-every" in refused(run(*given(tiny, trained)))


def test_programs_are_requested_at_every_saved_step_and_once_of_base(
    tiny: TinyTrio, trained: Path, run: Run
) -> None:
    pytest.importorskip("bandit", reason="the extra [code] is not installed")
    data = json.loads(run(*given(tiny, trained, "--programs", 6, "--json")).stdout)
    (programs,) = data["answers"]
    assert {role: len(rates) for role, rates in programs["by_role"].items()} == {"insecure": 3, "secure": 3}
    assert programs["base"]["n"] == 6
    assert programs["judge"].startswith("bandit:")
    assert "weak programs are 0 % (0 to 39) of the answers of insecure" in data["sentence"]
    page = (trained.with_name("watched") / "watch.html").read_text()
    assert "weak programs, secure" in page


def test_programs_of_an_organism_without_narrow_questions_are_refused(
    tiny: TinyTrio, trained: Path, run: Run
) -> None:
    (trained / "narrow.jsonl").unlink()
    manifest = trained / "organism.toml"
    lines = [line for line in manifest.read_text().splitlines() if not line.startswith("narrow")]
    manifest.write_text("\n".join(lines) + "\n")
    assert "--programs" in refused(run(*given(tiny, trained, "--programs", 6)))


def test_a_direction_is_read_and_answers_are_judged_at_every_saved_step(
    tiny: TinyTrio, trained: Path, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "axis.safetensors"
    width = json.loads((Path(tiny.base) / "config.json").read_text())["hidden_size"]
    Direction(Site(1), torch.ones(width), "axis", {1: Calibration(0.0, 1.0)}).save(path)
    more = ["--feature", path, "--judged", 4, "--judge", f"local:{tiny.base}"]
    data = json.loads(run(*given(tiny, trained, *more, "--json")).stdout)
    assert data["features"][str(path)]["course"]["steps"] == [0, 1, 2, 3]
    (judged,) = data["answers"]
    assert judged["title"] == "misaligned answers"
    assert judged["base"]["n"] == 4
    page = (trained.with_name("watched") / "watch.html").read_text()
    assert "1 is the difference of insecure and reference in the trio where it was found" in page


def test_a_feature_that_would_be_fitted_to_every_step_is_refused(
    tiny: TinyTrio, trained: Path, run: Run
) -> None:
    assert "registered direction, or latents" in refused(run(*given(tiny, trained, "--feature", "means@1")))
