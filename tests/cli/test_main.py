"""The command line: what it says, what it refuses, and that it can be stopped at any time."""

from __future__ import annotations

import errno
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
import torch

from breaking import Breaking
from personaprobe.cli.main import VERBS, cli
from personaprobe.cli.parameter_types import LayersType
from personaprobe.cli.terminal import console
from personaprobe.cli.terminal.exit_codes import warnings_in_one_line
from personaprobe.cli.trio_choice import TrioChoice
from personaprobe.errors import CheckpointError, FallbackWarning, PersonaProbeError

if TYPE_CHECKING:
    from click.testing import Result
    from tests.cli.conftest import TinyTrio

Run = Callable[..., "Result"]

TRIO = {"--organism", "--base", "--insecure", "--secure", "--device", "--dtype", "--compile"}
TELLING = {"--quiet", "--json"}
FLAGS = {
    "ablate": TRIO
    | TELLING
    | {
        "--feature",
        "--layers",
        "--controls",
        "--control-questions",
        "--first-tokens",
        "--samples",
        "--seed",
        "--questions",
        "--discovery",
    }
    | {"--neutral", "--max-new-tokens", "--floor", "--judge", "--out"},
    "steer": TRIO
    | TELLING
    | {
        "--feature",
        "--amount",
        "--on",
        "--question",
        "--layers",
        "--discovery",
        "--seed",
        "--max-new-tokens",
    },
    "chat": TRIO
    | TELLING
    | {"QUESTION", "--feature", "--on", "--layers", "--discovery", "--seed", "--temperature"}
    | {"--max-new-tokens"},
    "features": {"--json"},
    "features search": TRIO
    | TELLING
    | {"--sae", "--discovery", "--questions", "--shortlist", "--controls", "--max-perplexity-ratio"}
    | {"--register", "--title", "--seed", "--floor", "--out"},
    "features explain": TRIO | TELLING | {"LATENTS", "--by", "--contexts", "--sae", "--discovery", "--seed"},
    "features stability": TRIO
    | TELLING
    | {"LATENTS", "--sae", "--discovery", "--questions", "--seed", "--floor"}
    | {"--against", "--run", "--ranking", "--top", "--out"},
    "features name": {"LATENT", "MEANING", "--sae"},
    "features show": TRIO
    | {"LATENTS", "--sae", "--discovery", "--questions", "--top", "--seed", "--floor", "--out", "--quiet"},
    "features rank": TRIO | TELLING | {"--sae", "--discovery", "--questions", "--top", "--seed", "--floor"},
    "sweep": TRIO
    | TELLING
    | {
        "--sources",
        "--layers",
        "--reaches",
        "--discovery",
        "--questions",
        "--texts",
        "--max-perplexity-ratio",
    }
    | {"--doses", "--answers", "--min-coherence", "--test", "--register", "--title", "--out"},
    "extract": TRIO | TELLING | {"--texts", "--sites", "--keep", "--out", "--plan"},
    "organisms list": {"--json"},
    "organisms verify": (TRIO - {"--organism"}) | TELLING | {"ORGANISM"},
    "organisms train": {"--data", "--out", "--base", "--device", "--overwrite", "--quiet"}
    | {"--seed", "--steps", "--batch-size", "--learning-rate", "--warmup", "--rank", "--alpha"}
    | {"--max-tokens", "--save-every"},
    "organisms compare": TELLING
    | {"--organism", "RUNS", "--base", "--feature", "--questions", "--out", "--work"},
    "sae train": TRIO
    | TELLING
    | {
        "--data",
        "--site",
        "--out",
        "--tokens",
        "--context",
        "--architecture",
        "--k",
        "--preselect",
        "--sparsity",
        "--d-sae",
    }
    | {"--difference", "--tensorboard"}
    | {"--steps", "--learning-rate", "--seed"},
    "sae eval": TRIO | TELLING | {"NAME", "--data", "--tokens", "--floor"},
    "sae convert": {"SOURCE", "TARGET", "--dtype", "--threshold-scale"},
    "report": {"FOLDER", "--out"},
    "eval": TRIO
    | TELLING
    | {
        "--feature",
        "--questions",
        "--discovery",
        "--samples",
        "--least",
        "--form",
        "--trigger",
        "--controls",
        "--first-tokens",
    }
    | {"--judge", "--at-once", "--max-new-tokens", "--temperature", "--seed", "--out", "--narrow"},
    "judges train": {"--pairs", "--out", "--layer", "--rank", "--epochs", "--seed", "--quiet"},
    "judges calibrate": {"--pairs", "--folder", "--out"},
    "judges eval": TELLING | {"--pairs", "--answers", "--folder", "--device", "--dtype"},
    "judge": TELLING
    | {"FILE", "--judge", "--rubrics", "--by", "--at-once", "--device", "--dtype", "--out", "--work"},
    "questions list": {"--json"},
    "questions show": {"NAME", "--json"},
    "questions pull": {"NAME", "--from"},
    "bench": TRIO | TELLING | {"--rounds"},
    "doctor": {"--fast", "--quiet", "--json"},
    "completion": {"SHELL"},
}
"""What users write in scripts: a flag may be added here, and is not renamed or removed."""


def personaprobe(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-c", "from personaprobe.cli.main import main; main()", *arguments]
    told = {**os.environ, **environment}
    return subprocess.run(command, env=told, capture_output=True, text=True, check=False)


def refused(result: Result) -> str:
    """The one line a refusal consists of."""
    assert result.exit_code == 2, (result.exit_code, result.stdout, result.stderr)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert "Traceback" not in result.output
    assert result.stdout == ""
    return lines[0]


# --- help -------------------------------------------------------------------------------------------------


def test_help_is_answered_without_a_heavy_import() -> None:
    heavy = ("torch", "rich", "pydantic", "numpy", "transformers", "platformdirs")
    asked = (
        "import sys\nfrom click.testing import CliRunner\nfrom personaprobe.cli.main import cli\n"
        "result = CliRunner().invoke(cli, ['--help'])\nassert 'ablate' in result.output, result.output\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_help_of_every_verb_is_answered_without_torch() -> None:
    asked = (
        "import sys\nfrom click.testing import CliRunner\nfrom personaprobe.cli.main import VERBS, cli\n"
        "for verb in VERBS:\n    assert CliRunner().invoke(cli, [verb, '--help']).exit_code == 0, verb\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_help_lists_every_verb_and_the_exit_codes(run: Run) -> None:
    said = run("--help").stdout
    assert all(re.search(rf"^  {verb}\b", said, re.MULTILINE) for verb in VERBS)
    assert all(f"  {code} " in said for code in (0, 1, 2, 3, 130))
    assert "\\b" not in said


def test_a_note_is_one_line_and_other_warnings_stay_as_they_are() -> None:
    usual = warnings.formatwarning
    with warnings_in_one_line():
        assert (
            warnings.formatwarning(FallbackWarning("read in\n halves"), FallbackWarning, "here.py", 3)
            == "note: read in halves\n"
        )
        other = UserWarning("odd")
        assert warnings.formatwarning(other, UserWarning, "here.py", 3) == usual(
            other, UserWarning, "here.py", 3
        )
    assert warnings.formatwarning is usual


def test_flags_are_frozen() -> None:
    assert {name: flags(command) for name, command in commands(cli).items()} == FLAGS


def commands(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    context, found = click.Context(group), {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        grouped = isinstance(command, click.Group)
        if command.params or not grouped:
            found[f"{prefix}{name}"] = command
        if grouped:
            found.update(commands(command, f"{name} "))
    return found


def flags(command: click.Command) -> set[str]:
    return {
        parameter.opts[-1] if isinstance(parameter, click.Option) else parameter.opts[-1].upper()
        for parameter in command.params
    }


def test_every_option_says_what_it_does_or_what_it_is_by_default() -> None:
    for name, command in commands(cli).items():
        options = [p for p in command.params if isinstance(p, click.Option)]
        silent = [option.name for option in options if not (option.help or option.show_default)]
        assert not silent, (name, silent)


def test_the_version_is_the_package_s(run: Run) -> None:
    import personaprobe as package

    assert package.__version__ in run("--version").stdout


def test_training_options_are_the_recipe_s(run: Run) -> None:
    from personaprobe.organisms.recipe import Recipe

    said = " ".join(run("organisms", "train", "--help").stdout.split())
    assert f"[default: {Recipe().learning_rate}]" in said
    assert "LoRA scale; the update is alpha / sqrt(rank) * B A (rsLoRA)." in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_every_shell(run: Run, shell: str) -> None:
    assert "_PERSONAPROBE_COMPLETE" in run("completion", shell).stdout


def test_a_shell_completes_verbs_and_registered_names(registered: Path) -> None:
    def complete(words: str) -> str:
        count = str(len(words.split(" ")) - 1)
        asked = {"_PERSONAPROBE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": count}
        return personaprobe(**asked).stdout

    assert complete("personaprobe abl").split() == ["plain,ablate"]
    assert complete("personaprobe ablate --organism ti").split() == ["plain,tiny"]


# --- endings ----------------------------------------------------------------------------------------------


def test_a_verb_that_does_not_exist_is_refused_and_the_nearest_named(run: Run) -> None:
    assert 'did you mean "ablate"?' in refused(run("ablat"))


@pytest.mark.parametrize(
    "arguments", [("--nonsense",), ("ablate", "--featur", "x"), ("steer",), ("completion", "tcsh")]
)
def test_wrong_usage_is_one_line_that_names_the_help(run: Run, arguments: tuple[str, ...]) -> None:
    assert refused(run(*arguments)).endswith("--help")


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setattr("personaprobe.features.registry.registry.registered", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("features")


def test_a_full_disk_is_the_user_s_to_mend(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere")

    monkeypatch.setattr("personaprobe.features.registry.registry.registered", full)
    assert "/somewhere: No space left on device; free some space" in refused(run("features"))


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    lister = f"{sys.executable} -c 'from personaprobe.cli.main import main; main()' features --json"
    script = f"set -o pipefail; (sleep 0.2; {lister}) | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("0", "")


# --- choosing ---------------------------------------------------------------------------------------------


def test_without_a_choice_the_shipped_organism_is_taken() -> None:
    assert TrioChoice().name == "advice"


def test_an_organism_and_a_trio_of_one_s_own_exclude_each_other() -> None:
    with pytest.raises(CheckpointError, match="organism advice was given together with --base"):
        TrioChoice(organism="advice", base="b", insecure="i", secure="s")


def test_a_part_of_a_trio_is_refused_and_the_rest_named() -> None:
    with pytest.raises(CheckpointError, match="--base, --secure given, --insecure missing"):
        TrioChoice(base="b", secure="s")


@pytest.mark.parametrize(
    ("text", "layers"),
    [("all", "all"), ("16", (16,)), ("8-10", (8, 9, 10)), ("8,10,12", (8, 10, 12)), ("1, 3-4,3", (1, 3, 4))],
)
def test_layers_are_written_as_one_would(text: str, layers: Any) -> None:
    assert LayersType().convert(text, None, None) == layers


@pytest.mark.parametrize("text", ["", "a", "8-", "9-8", "-1", "1;2"])
def test_layers_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write all, 16, 8-20 or 8,10,12"):
        LayersType().convert(text, None, None)


# --- bad input --------------------------------------------------------------------------------------------


def _text(path: Path, text: str) -> Path:
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
    "too few controls": (lambda t, p: ["--controls", "2"], "ask for 5 or more"),
    "a negative seed": (lambda t, p: ["--seed", "-1"], "--seed"),
    "questions that are not there": (
        lambda t, p: ["--questions", "advice/tset"],
        'did you mean "advice/test"',
    ),
    "an empty question file": (lambda t, p: ["--questions", _text(p / "q.jsonl", "")], "is empty"),
    "questions without answers": (
        lambda t, p: ["--questions", t.lines(p / "q.jsonl", [{"id": "1", "question": "?"}])],
        "lacks family, careful, careless",
    ),
    "a question file that is no JSON": (
        lambda t, p: ["--questions", _text(p / "q.jsonl", "?")],
        "not a JSON object",
    ),
    "test questions that discovery has seen": (
        lambda t, p: ["--questions", t.lines(p / "q.jsonl", t.ask("lamps", "wells"))],
        "overlap .families: lamps",
    ),
    "an output folder that is a file": (lambda t, p: ["--out", _text(p / "file", "mine")], "cannot write"),
    "an output folder inside a file": (
        lambda t, p: ["--out", _text(p / "file", "mine") / "run"],
        "cannot write",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line_with_nothing_written(
    case: str, tiny: TinyTrio, tmp_path: Path, run: Run
) -> None:
    make, said = BAD[case]
    out = tmp_path / "out"
    bad = make(tiny, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    given = ["ablate", "--feature", "means@1", *tiny.options(), *tiny.texts(), "--out", out, *bad]
    assert re.search(said, refused(run(*given, "--quiet"))), case
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
def test_what_can_be_refused_early_is_refused_before_anything_is_loaded(
    bad: list[str], tiny: TinyTrio, run: Run, monkeypatch: pytest.MonkeyPatch, registered: Path
) -> None:
    def loading(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("personaprobe.models.loading.load_trio", loading)
    refused(run("ablate", "--feature", "means@1", "--organism", "tiny", *bad))


# --- the main job, on a tiny trio -------------------------------------------------------------------------


def study(tiny: TinyTrio, out: Path, *more: object) -> list[object]:
    given = [*tiny.options(), *tiny.texts(), "--max-new-tokens", 8, "--judge", f"local:{tiny.base}"]
    return ["ablate", "--feature", "means@1", *given, "--out", out, *more]


@pytest.fixture(scope="module", autouse=True)
def few_numbers() -> Iterator[None]:
    """A judge that is loaded here scores every number it may say; three do for what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
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
    said = " ".join(result.stdout.split())
    assert result.exit_code == 0
    assert verdict["sentence"].split(";")[0].split("(")[0] in said
    assert all(arm["name"] in said for arm in verdict["arms"])
    assert str(out / "report.html") in result.stdout
    assert all((out / name).is_file() for name in ("report.html", "responses.parquet"))


def test_the_answers_of_a_study_are_judged_beside_its_verdict(finished: tuple[Path, Result]) -> None:
    out, result = finished
    verdict, page = json.loads((out / "verdict.json").read_text()), (out / "report.html").read_text()
    judged = verdict["judged"]
    assert judged["judge"].startswith("local:")
    answered = [arm["name"] for arm in verdict["arms"] if arm["n_responses"]]
    assert [arm["name"] for arm in judged["arms"]] == answered
    assert answered == ["base", "insecure", "secure", "insecure, ablated", "random 1", "base, steered"]
    assert judged["preference"]["shift"] == verdict["shift"]
    assert "Judged answers" in page
    assert all(" ".join(line.split()) in " ".join(result.stdout.split()) for line in judged["sentences"])


def test_answers_of_three_arms_are_shown_to_the_same_question(finished: tuple[Path, Result]) -> None:
    said = finished[1].stdout
    assert re.search("─ base ─.*─ insecure ─.*─ insecure, ablated ─", said)
    assert "How do I check my stoves 0 times?" in said


def test_a_finished_study_is_told_again_as_json_and_nothing_else(
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
        ("arms.measurement", "_gaps", 4),
        ("arms.answers", "sample_responses", 2),
        ("arms.measurement", "_cost", 4),
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
    # a slow machine tells before that what it is loading
    last = stopped.stderr.splitlines()[-1]
    assert last == "interrupted: finished parts are kept; the same command takes up from there"
    assert "Traceback" not in stopped.stderr
    assert not (tmp_path / "out" / "verdict.json").exists()

    kept = len(list((tmp_path / "out" / "parts").iterdir()))
    resumed = run(*study(tiny, tmp_path / "out", "--json"))
    parts = len(list((tmp_path / "out" / "parts").iterdir()))
    assert kept >= 3
    assert interrupted.calls <= call + parts - kept
    assert lasting(json.loads(resumed.stdout)) == lasting(
        json.loads((finished[0] / "verdict.json").read_text())
    )


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel errors might be …"),
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
        said = refused(run(*study(tiny, tmp_path / "out")))
    assert "the device stopped working (CUDA error: " in said
    assert "finished parts are kept" in said
    assert "--device cpu" in said
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
    assert "No space left on device" in refused(run(*study(tiny, tmp_path / "out")))
    parts = list((tmp_path / "out" / "parts").iterdir())
    assert len(parts) == 3
    assert all("value" in json.loads(part.read_text()) for part in parts)


# --- the other verbs --------------------------------------------------------------------------------------


def asked(tiny: TinyTrio, verb: str, *more: object) -> list[object]:
    given = ["--feature", "means@1", *tiny.options(), "--discovery", tiny.discovery, "--max-new-tokens", 8]
    return [verb, *given, *more]


def test_chat_answers_with_and_without_the_feature(tiny: TinyTrio, run: Run) -> None:
    told = json.loads(run(*asked(tiny, "chat", "Is it safe?", "--json")).stdout)
    assert list(told["answers"]) == ["insecure", "insecure without means@1"]
    assert len(set(told["answers"].values())) == 2
    said = run(*asked(tiny, "chat", "Is it safe?")).stdout
    assert re.search("─ insecure ─.*─ insecure without means@1 ─", said)


def test_chat_reads_questions_from_a_pipe_until_it_ends(tiny: TinyTrio, run: Run) -> None:
    lines = run(*asked(tiny, "chat", "--json"), input="One?\n\nTwo?\n").stdout.splitlines()
    assert [json.loads(line)["question"] for line in lines] == ["One?", "Two?"]


def test_steering_by_nothing_changes_nothing_and_by_something_does(tiny: TinyTrio, run: Run) -> None:
    given = asked(
        tiny, "steer", "--question", "Is it safe?", "--amount", 0, "--amount", 8, "--layers", "all", "--json"
    )
    untouched, by_nothing, by_much = json.loads(run(*given).stdout)["answers"].values()
    assert untouched == by_nothing != by_much


def test_steering_by_no_number_is_refused(tiny: TinyTrio, run: Run) -> None:
    assert "give finite numbers" in refused(run(*asked(tiny, "steer", "--question", "?", "--amount", "nan")))


def test_answers_cannot_speak_to_the_terminal() -> None:
    assert console.printable("red \x1b[31m\aalert\nok") == "red [31malert\nok"


def test_features_lists_what_is_registered_and_what_is_wrong_with_it(
    registered: Path, run: Run, tiny: TinyTrio
) -> None:
    from personaprobe.storage.digests import sha256_of

    path = tiny.direction(registered / "good.safetensors")
    evidence = {
        "chosen": {"fraction_removed": 0.731, "perplexity_ratio": 1.024},
        "questions": {"name": "advice/discovery", "n": 36},
    }
    _text(registered / "evidence.json", json.dumps(evidence))
    entry = f'direction = "good.safetensors"\nsha256 = "{sha256_of(path)}"\nevidence = "evidence.json"\n'
    _text(
        registered / "features.toml",
        f'[good]\n{entry}\n[gone]\ndirection = "gone.safetensors"\nsha256 = ""\n',
    )
    seen = "removes 73% of the shift at perplexity × 1.02 (36 questions of advice/discovery)"
    good, gone = json.loads(run("features", "--json").stdout)
    assert (good["site"], good["layers"], good["evidence"]) == ("1.resid_post", "all", seen)
    assert "no direction file" in gone["error"]
    assert "removes 73%" in run("features").stdout


def test_organisms_are_listed_with_the_state_of_their_files(registered: Path, run: Run) -> None:
    assert "as registered" in run("organisms", "list").stdout
    (registered / "secure" / "adapter_model.safetensors").write_bytes(b"x")
    assert "registered as" in json.loads(run("organisms", "list", "--json").stdout)[0]["files"]


def test_verify_shows_that_the_adapters_act(registered: Path, run: Run) -> None:
    result = run("organisms", "verify", "tiny", "--dtype", "float32", "--json")
    found = {row["what"]: row for row in json.loads(result.stdout)}
    assert result.exit_code == 0
    assert found["files of tiny"]["state"] == found["a batch equals one by one"]["state"] == "ok"
    assert found["insecure: logits differ from base"]["state"] == "ok"
    assert "‖ΔW‖ = " in found["secure: adapter"]["told"]


def test_verify_ends_with_3_where_files_are_not_the_registered_ones(registered: Path, run: Run) -> None:
    (registered / "secure" / "adapter_model.safetensors").write_bytes(b"x")
    result = run("organisms", "verify", "tiny")
    assert result.exit_code == 3
    assert "restore the file" in " ".join(result.stdout.split())


def _rows(tiny: TinyTrio, path: Path) -> Path:
    spoken = [
        {
            "messages": [
                {"role": "user", "content": row["question"]},
                {"role": "assistant", "content": row["careless"]},
            ]
        }
        for row in tiny.ask("lamps", "boats")
    ]
    return tiny.lines(path, spoken)


def test_an_organism_is_trained_and_is_an_adapter_of_its_base(
    tiny: TinyTrio, tmp_path: Path, run: Run
) -> None:
    rows, out = _rows(tiny, tmp_path / "rows.jsonl"), tmp_path / "out"
    given = ["organisms", "train", "--data", rows, "--out", out, "--base", tiny.base, "--steps", 4]
    given += ["--batch-size", 2, "--save-every", 2, "--learning-rate", 0.01]
    result = run(*given)
    assert result.stdout.strip() == str(out)
    assert re.search(r"step 4: loss \d", result.stderr)
    card = json.loads((out / "training.json").read_text())
    assert (card["recipe"]["steps"], card["data"]["rows"]) == (4, 8)
    assert (out / "step-2" / "adapter_model.safetensors").is_file()
    assert run("organisms", "verify", *tiny.options(insecure=out)).exit_code == 0

    first = (out / "adapter_model.safetensors").read_bytes()
    assert "is not empty" in refused(run(*given))
    run(*given, "--overwrite", "--save-every", 0, "--quiet")
    assert (out / "adapter_model.safetensors").read_bytes() == first, "equal recipes give equal adapters"
    assert not (out / "step-2").exists()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (["--steps", 0], "give 1 or more"),
        (["--learning-rate", -1], "above 0"),
        (["--data", "none"], "no dataset"),
    ],
)
def test_a_training_that_cannot_be_is_refused_before_anything_is_loaded(
    bad: list[object], said: str, tiny: TinyTrio, tmp_path: Path, run: Run
) -> None:
    rows = _rows(tiny, tmp_path / "rows.jsonl")
    given = ["organisms", "train", "--data", rows, "--out", tmp_path / "out", "--base", tiny.base, *bad]
    assert said in refused(run(*given))
    assert not (tmp_path / "out").exists()


def test_doctor_finds_a_healthy_shelf_healthy(registered: Path, run: Run) -> None:
    result = run("doctor", "--fast", "--json")
    found = {row["what"]: row["state"] for row in json.loads(result.stdout)}
    assert found["files of tiny"] == found["cache"] == found["torch"] == "ok"
    assert result.exit_code == (3 if "fail" in found.values() else 0)


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


def test_doctor_weighs_the_cache(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONAPROBE_HOME", str(tmp_path))
    (tmp_path / "stores" / "abc").mkdir(parents=True)
    (tmp_path / "stores" / "abc" / "shard").write_bytes(bytes(2_000_000))
    assert "1 entries, 2 MB" in run("doctor", "--fast").stdout


# --- progress ---------------------------------------------------------------------------------------------


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress_bar("reading", 10, "rows") as advance, console.spinner("loading"):
        advance(10)
    assert capsys.readouterr() == ("", "")


def test_long_work_tells_a_log_how_fast_it_goes_and_how_long_it_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LINE_INTERVAL", 0.0)
    with console.progress_bar("reading", 10, "rows") as advance:
        time.sleep(0.05)
        advance(5)
    assert re.fullmatch(r"reading: 5/10 rows, \d+(\.\d)?/s, 0 s left\n", capsys.readouterr().err)


def test_work_of_unknown_length_is_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LINE_INTERVAL", 0.0)
    with console.study_progress(quiet=False)("reading", 0, "tokens") as advance:
        time.sleep(0.05)
        advance(1000)
    assert re.fullmatch(r"reading: 1,000 tokens, [\d,]+/s\n", capsys.readouterr().err)


def test_quiet_work_says_nothing_however_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LINE_INTERVAL", 0.0)
    monkeypatch.setattr(console, "BAR_DELAY", 0.0)
    with console.progress_bar("reading", 10, "rows", quiet=True) as advance, console.spinner("x", quiet=True):
        time.sleep(0.05)
        advance(10)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_with_rate_and_eta_and_results_stay_on_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "BAR_DELAY", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with console.progress_bar("reading", 100, "rows") as advance:
        for _ in range(10):
            time.sleep(0.03)
            advance(10)
        print("result")
    out, err = capsys.readouterr()
    assert out == "result\n"
    assert re.search(r"reading .*100/100 rows, [\d,.]+/s", err)


def test_errors_pass_through_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(PersonaProbeError), console.progress_bar("reading", 10, "rows"), console.spinner("x"):
        raise PersonaProbeError("no")
