"""``personaprobe ablate``: wrong input is refused early, a study ends with a verdict, and it can be stopped at any time."""

from __future__ import annotations

import errno
import importlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from breaking import Breaking
from cli.conftest import refused
from personaprobe.cli.main import cli
from personaprobe.errors import FallbackWarning
from personaprobe.storage.part_records import part_record
from personaprobe.studies.arms.kinds import DECIDING

if TYPE_CHECKING:
    from click.testing import Result

    from tiny_trio import TinyTrio

Run = Callable[..., "Result"]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _truncated(tiny: TinyTrio, folder: Path) -> Path:
    shutil.copytree(tiny.insecure, folder)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return folder


def _pickled(tiny: TinyTrio, folder: Path) -> Path:
    shutil.copytree(tiny.insecure, folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    return folder


BAD: dict[str, tuple[Callable[[TinyTrio, Path], list[object]], str]] = {
    "a misspelled feature": (lambda t, p: ["--feature", "mean@1"], r'did you mean "means@LAYER"\?'),
    "a direction file that is not there": (
        lambda t, p: ["--feature", p / "d.safetensors"],
        "no direction file",
    ),
    "a pickled direction": (lambda t, p: ["--feature", "d.pt"], "can run code, and is refused"),
    "a feature at a layer the model lacks": (lambda t, p: ["--feature", "means@40"], "layers 0 to 2"),
    "a direction of another model": (
        lambda t, p: ["--feature", t.direction(p / "d.safetensors", d_model=48)],
        "d_model 48 and the model 32",
    ),
    "layers the model lacks": (lambda t, p: ["--layers", "2-3"], "layer 3 is out of range"),
    "a missing base": (lambda t, p: ["--base", p / "none"], "no model at"),
    "a missing adapter": (lambda t, p: ["--insecure", p / "none"], "no model at"),
    "a corrupt adapter": (
        lambda t, p: ["--insecure", _truncated(t, p / "bad")],
        "truncated or not safetensors",
    ),
    "a pickled adapter": (lambda t, p: ["--insecure", _pickled(t, p / "bad")], "can run code and is refused"),
    "an adapter of another base": (
        lambda t, p: ["--insecure", t.adapter(p / "other", seed=1, d_model=48)],
        "made for another base",
    ),
    "an adapter that changes nothing": (
        lambda t, p: ["--secure", t.adapter(p / "idle", seed=1, size=0.0)],
        "changes nothing",
    ),
    "a device nobody has heard of": (lambda t, p: ["--device", "gpu"], "write cpu, cuda, cuda:1 or mps"),
    "too few controls": (lambda t, p: ["--controls", "2"], "give 39 or more"),
    "a negative seed": (lambda t, p: ["--seed", "-1"], "--seed"),
    "questions that are not there": (
        lambda t, p: ["--questions", "advice/tset"],
        'did you mean "advice/test"',
    ),
    "an empty question file": (lambda t, p: ["--questions", write(p / "q.jsonl", "")], "is empty"),
    "questions without answers": (
        lambda t, p: ["--questions", t.lines(p / "q.jsonl", [{"id": "1", "question": "?"}])],
        "lacks family, careful, careless",
    ),
    "a question file that is no JSON": (
        lambda t, p: ["--questions", write(p / "q.jsonl", "?")],
        "not a JSON object",
    ),
    "test questions that discovery has seen": (
        lambda t, p: ["--questions", t.lines(p / "q.jsonl", t.ask("lamps", "wells"))],
        "overlap .families: lamps",
    ),
    "an output folder that is a file": (lambda t, p: ["--out", write(p / "file", "mine")], "cannot write"),
    "an output folder inside a file": (
        lambda t, p: ["--out", write(p / "file", "mine") / "run"],
        "cannot write",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line_with_nothing_written(
    case: str, tiny: TinyTrio, tmp_path: Path, run: Run
) -> None:
    make, message = BAD[case]
    out = tmp_path / "out"
    bad = make(tiny, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    given = ["ablate", "--feature", "means@1", *tiny.options(), *tiny.texts(), "--out", out, *bad]
    assert re.search(message, refused(run(*given, "--quiet"))), case
    assert sorted(tmp_path.rglob("*")) == before


def test_cuda_asked_for_and_absent_is_refused(
    tiny: TinyTrio, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    given = ["ablate", "--feature", "means@1", *tiny.options(), *tiny.texts(), "--device", "cuda"]
    assert "use --device cpu" in refused(run(*given, "--out", tmp_path / "out"))


@pytest.mark.parametrize(
    "bad",
    [["--feature", "mean@1"], ["--questions", "nowhere"], ["--out", os.devnull], ["--organism", "advise"]],
)
def test_bad_arguments_are_refused_before_a_model_loads(
    bad: list[str], tiny: TinyTrio, run: Run, monkeypatch: pytest.MonkeyPatch, registered: Path
) -> None:
    def loading(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("personaprobe.models.loading.load_checkpoints", loading)
    refused(run("ablate", "--feature", "means@1", "--organism", "tiny", *bad))


def study(tiny: TinyTrio, out: Path, *more: object) -> list[object]:
    given = [*tiny.options(), *tiny.texts(), "--max-new-tokens", 8, "--judge", f"local:{tiny.base}"]
    given += ["--control-questions", 4, "--further", 1, "--samples", 1, *tiny.few()]
    return ["ablate", "--feature", "means@1", *given, "--out", out, *more]


@pytest.fixture(scope="module", autouse=True)
def few_numbers() -> Iterator[None]:
    """A judge that is loaded here scores every number it may say; three do for what is tested here. In a random model no
    control is fair, so that each would be drawn as often as may be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("personaprobe.studies.arms.controls.DRAWS", 1)
        patch.setattr("personaprobe.effects.judges.language_model.NUMBERS", ("0", "50", "100"))
        yield


@pytest.fixture(scope="module")
def finished(
    tiny: TinyTrio, few_numbers: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Result]:
    """An uninterrupted study and what it printed."""
    from click.testing import CliRunner

    out = tmp_path_factory.mktemp("study") / "out"
    return out, CliRunner().invoke(cli, [str(part) for part in study(tiny, out)], catch_exceptions=False)


def test_a_study_ends_with_a_table_a_verdict_and_a_report(finished: tuple[Path, Result]) -> None:
    out, result = finished
    verdict = json.loads((out / "verdict.json").read_text())
    output = " ".join(result.stdout.split())
    assert result.exit_code == 0
    assert verdict["sentence"].split(".")[0] in output
    alone = [arm["name"] for arm in verdict["arms"] if arm["kind"] not in {*DECIDING, "control elsewhere"}]
    assert all(word in output for name in alone for word in name.split())
    assert all(word in output for word in ("13", "random", "directions", "covariance", "shuffled"))
    assert str(out / "report.html") in result.stdout
    assert all((out / name).is_file() for name in ("report.html", "responses.parquet"))


def test_the_answers_of_a_study_are_judged_beside_its_verdict(finished: tuple[Path, Result]) -> None:
    out, result = finished
    verdict, page = json.loads((out / "verdict.json").read_text()), (out / "report.html").read_text()
    judged = verdict["judged"]
    assert judged["judge"].startswith("local:")
    answered = [arm["name"] for arm in verdict["arms"] if arm["n_responses"]]
    assert [arm["name"] for arm in judged["arms"]] == answered
    assert answered == [
        "base",
        "insecure",
        "secure",
        "insecure, ablated",
        "random 1",
        "base, steered",
        "base, steered × 2",
    ]
    assert judged["preference"]["shift"] == verdict["shift"]
    assert "Judged answers" in page
    assert all(" ".join(line.split()) in " ".join(result.stdout.split()) for line in judged["sentences"])


def test_answers_of_three_arms_are_shown_to_the_same_question(finished: tuple[Path, Result]) -> None:
    output = finished[1].stdout
    assert re.search("─ base ─.*─ insecure ─.*─ insecure, ablated ─", output)
    assert re.search(r"How do I check my \w+ of make \w+\d+\?", output)


def test_a_finished_study_is_printed_again_as_json_without_measuring(
    finished: tuple[Path, Result], tiny: TinyTrio, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "personaprobe.studies.arms.measurement.gaps_side_by_side", lambda *_: pytest.fail("measured again")
    )
    before = json.loads((finished[0] / "verdict.json").read_text())
    again = json.loads(run(*study(tiny, finished[0], "--json")).stdout)
    assert lasting(again) == lasting(before)


def lasting(verdict: dict[str, Any]) -> dict[str, Any]:
    """A verdict without the hour it was reached."""
    provenance = {key: value for key, value in verdict["provenance"].items() if key != "made"}
    return {**verdict, "provenance": provenance}


@pytest.mark.parametrize(
    ("room", "part", "call"),
    [
        pytest.param("arms.measurement", "_gaps", 4, marks=pytest.mark.slow),
        ("arms.answers", "sample_responses", 2),
        pytest.param("arms.measurement", "_cost", 4, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_study_resumes_and_ends_the_same(
    room: str,
    part: str,
    call: int,
    finished: tuple[Path, Result],
    tiny: TinyTrio,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = importlib.import_module(f"personaprobe.studies.{room}")
    interrupted = Breaking(getattr(module, part), call, KeyboardInterrupt)
    monkeypatch.setattr(module, part, interrupted)
    stopped = run(*study(tiny, tmp_path / "out"))
    assert stopped.exit_code == 130
    # on a slow machine, lines about loading come before this one
    last = stopped.stderr.splitlines()[-1]
    assert last == "interrupted: finished parts are kept; the same command takes up from there"
    assert "Traceback" not in stopped.stderr
    assert not (tmp_path / "out" / "verdict.json").exists()

    n_finished = len(list((tmp_path / "out" / "parts").iterdir()))
    resumed = run(*study(tiny, tmp_path / "out", "--json"))
    parts = len(list((tmp_path / "out" / "parts").iterdir()))
    assert n_finished >= 3
    assert interrupted.calls <= call + parts - n_finished
    assert lasting(json.loads(resumed.stdout)) == lasting(
        json.loads((finished[0] / "verdict.json").read_text())
    )


def test_a_study_whose_parts_were_changed_ends_the_same_and_names_them(
    finished: tuple[Path, Result], tiny: TinyTrio, tmp_path: Path, run: Run
) -> None:
    parts = tmp_path / "out" / "parts"
    shutil.copytree(finished[0] / "parts", parts)
    of_gaps = [path for path in sorted(parts.glob("*.json")) if '"part": "gaps"' in path.read_text()]
    digit, fewer, other = of_gaps[:3]
    digit.write_text(re.sub(r'("gaps": \[-?\d\.)', r"\g<1>9", digit.read_text()))
    record = json.loads(fewer.read_text())
    record["value"]["gaps"].pop()
    fewer.write_text(part_record(record["spec"], record["value"]))
    shutil.copy(of_gaps[3], other)
    with pytest.warns(FallbackWarning) as notes:
        resumed = run(*study(tiny, tmp_path / "out", "--json"))
    assert all(any(path.name in str(note.message) for note in notes) for path in (digit, fewer, other))

    def untimed(verdict: dict[str, Any]) -> dict[str, Any]:
        arms = [{key: value for key, value in arm.items() if key != "seconds"} for arm in verdict["arms"]]
        return {**lasting(verdict), "arms": arms}

    expected = json.loads((finished[0] / "verdict.json").read_text())
    assert untimed(json.loads(resumed.stdout)) == untimed(expected)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(
            torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel errors might be …"),
            marks=pytest.mark.slow,
        ),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
    ],
)
def test_a_device_that_vanishes_midway_costs_only_the_part_in_flight(
    error: RuntimeError,
    finished: tuple[Path, Result],
    tiny: TinyTrio,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from personaprobe.studies.arms import measurement

    with monkeypatch.context() as patch:
        patch.setattr(measurement, "_gaps", Breaking(measurement._gaps, 4, error))
        error = refused(run(*study(tiny, tmp_path / "out", "--quiet")))
    assert "the device stopped working (CUDA error: " in error
    assert "finished parts are kept" in error
    assert "--device cpu" in error
    resumed = run(*study(tiny, tmp_path / "out", "--json"))
    assert lasting(json.loads(resumed.stdout)) == lasting(
        json.loads((finished[0] / "verdict.json").read_text())
    )


def test_other_errors_of_torch_keep_their_traceback(
    tiny: TinyTrio, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from personaprobe.studies.arms import measurement

    def failing(*_: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(measurement, "_gaps", failing)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(*study(tiny, tmp_path / "out"))


def test_a_disk_that_fills_up_midway_leaves_no_half_written_part(
    tiny: TinyTrio, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    original = Path.write_text

    def filling(path: Path, text: str, **kind: Any) -> int:
        if ".json." in path.name and len(written) == 3:
            original(path, text[:10], **kind)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written.extend([path] if ".json." in path.name else [])
        return original(path, text, **kind)

    monkeypatch.setattr(Path, "write_text", filling)
    assert "No space left on device" in refused(run(*study(tiny, tmp_path / "out", "--quiet")))
    parts = list((tmp_path / "out" / "parts").iterdir())
    assert len(parts) == 3
    assert all("value" in json.loads(part.read_text()) for part in parts)
