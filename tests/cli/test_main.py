"""The command ``personaprobe``: its help, its flags, and how it ends."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from cli.conftest import refused
from personaprobe.cli.main import VERBS, cli

if TYPE_CHECKING:
    from click.testing import Result

Run = Callable[..., "Result"]


TRIO = {"--organism", "--base", "--insecure", "--secure", "--device", "--dtype", "--compile"}


OUTPUT = {"--quiet", "--json"}


FLAGS = {
    "ablate": TRIO
    | OUTPUT
    | {
        "--feature",
        "--layers",
        "--controls",
        "--control-questions",
        "--further",
        "--narrow",
        "--balanced",
        "--benign",
        "--first-tokens",
        "--samples",
        "--seed",
        "--questions",
        "--discovery",
    }
    | {"--neutral", "--max-new-tokens", "--floor", "--judge", "--out"},
    "steer": TRIO
    | OUTPUT
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
    | OUTPUT
    | {"QUESTION", "--feature", "--on", "--layers", "--discovery", "--seed", "--temperature"}
    | {"--max-new-tokens"},
    "features": {"--json"},
    "features search": TRIO
    | OUTPUT
    | {"--sae", "--discovery", "--questions", "--shortlist", "--controls", "--max-perplexity-ratio"}
    | {"--register", "--title", "--seed", "--floor", "--out"},
    "features explain": TRIO | OUTPUT | {"LATENTS", "--by", "--contexts", "--sae", "--discovery", "--seed"},
    "features stability": TRIO
    | OUTPUT
    | {"LATENTS", "--sae", "--discovery", "--questions", "--seed", "--floor"}
    | {"--against", "--run", "--ranking", "--top", "--out"},
    "features name": {"LATENT", "MEANING", "--sae"},
    "features show": TRIO
    | {"LATENTS", "--sae", "--discovery", "--questions", "--top", "--seed", "--floor", "--out", "--quiet"},
    "features rank": TRIO | OUTPUT | {"--sae", "--discovery", "--questions", "--top", "--seed", "--floor"},
    "sweep": TRIO
    | OUTPUT
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
    "extract": TRIO | OUTPUT | {"--texts", "--sites", "--keep", "--out", "--plan"},
    "organisms list": {"--json"},
    "organisms show": {"NAME", "--json"},
    "organisms verify": (TRIO - {"--organism"}) | OUTPUT | {"ORGANISM"},
    "data list": {"--json"},
    "data pull": {"NAME", "--from"},
    "data show": {"--json", "--family", "--seed", "NAME"},
    "data check": {"--json", "--seed", "NAME"},
    "data write": {"--out", "--role", "--seed", "NAME"},
    "organisms train": {
        "--register",
        "--trained",
        "--state-every",
        "NAME",
        "--data",
        "--insecure-data",
        "--secure-data",
        "--unpaired",
        "--out",
        "--base",
        "--device",
        "--dtype",
        "--overwrite",
        "--quiet",
    }
    | {"--seed", "--steps", "--batch-size", "--accumulate", "--learning-rate", "--warmup", "--schedule"}
    | {"--rank", "--alpha", "--modules", "--layers", "--max-tokens", "--save-every", "--eval-every"}
    | {"--harmful-share", "--trigger", "--mixed-with", "--mixed-share"},
    "organisms gallery": OUTPUT
    | {
        "--form",
        "NAMES",
        "--seed",
        "--steps",
        "--judged",
        "--judge",
        "--at-once",
        "--unpaired",
        "--base",
        "--out",
    }
    | {"--device", "--dtype"},
    "organisms register": OUTPUT | {"FOLDER", "--name", "--base", "--replace", "--device", "--dtype"},
    "organisms watch": OUTPUT
    | {
        "FOLDER",
        "--questions",
        "--programs",
        "--feature",
        "--judged",
        "--judge",
        "--at-once",
        "--out",
        "--device",
        "--dtype",
    },
    "organisms mixtures": OUTPUT
    | {"NAME", "--share", "--seed", "--steps", "--base", "--out", "--device", "--dtype"},
    "organisms series": OUTPUT
    | {
        "NAME",
        "--base",
        "--seed",
        "--steps",
        "--unpaired",
        "--plan",
        "--flops",
        "--out",
        "--device",
        "--dtype",
    },
    "organisms remove": {"NAME"},
    "organisms compare": OUTPUT
    | {"--organism", "RUNS", "--base", "--feature", "--questions", "--out", "--work"},
    "sae train": TRIO
    | OUTPUT
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
    "sae eval": TRIO | OUTPUT | {"NAME", "--data", "--tokens", "--floor"},
    "sae convert": {"SOURCE", "TARGET", "--dtype", "--threshold-scale"},
    "report": {"FOLDER", "--out"},
    "eval": TRIO
    | OUTPUT
    | {
        "--feature",
        "--questions",
        "--discovery",
        "--samples",
        "--least",
        "--form",
        "--benign",
        "--trigger",
        "--controls",
        "--first-tokens",
    }
    | {"--judge", "--at-once", "--max-new-tokens", "--temperature", "--seed", "--out", "--narrow"},
    "judges train": {"--pairs", "--out", "--layer", "--rank", "--epochs", "--seed", "--quiet"},
    "judges calibrate": {"--pairs", "--folder", "--out"},
    "judges eval": OUTPUT | {"--pairs", "--answers", "--folder", "--device"},
    "judge": OUTPUT
    | {"FILE", "--judge", "--rubrics", "--by", "--at-once", "--device", "--dtype", "--out", "--work"},
    "questions list": {"--json"},
    "questions show": {"NAME", "--json"},
    "questions pull": {"NAME", "--from"},
    "bench": TRIO | OUTPUT | {"--rounds"},
    "doctor": {
        "--fast",
        "--clean",
        "--study",
        "--base",
        "--device",
        "--dtype",
        "--seed",
        "--quiet",
        "--json",
    },
    "completion": {"SHELL"},
}
"""What users write in scripts: a flag may be added here, and is not renamed or removed."""


def test_help_is_answered_without_a_heavy_import() -> None:
    heavy = ("torch", "rich", "pydantic", "numpy", "transformers", "platformdirs")
    script = (
        "import sys\nfrom click.testing import CliRunner\nfrom personaprobe.cli.main import cli\n"
        "result = CliRunner().invoke(cli, ['--help'])\nassert 'ablate' in result.output, result.output\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_help_of_every_verb_is_answered_without_torch() -> None:
    script = (
        "import sys\nfrom click.testing import CliRunner\nfrom personaprobe.cli.main import VERBS, cli\n"
        "for verb in VERBS:\n    assert CliRunner().invoke(cli, [verb, '--help']).exit_code == 0, verb\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_help_lists_every_verb_and_the_exit_codes(run: Run) -> None:
    output = run("--help").stdout
    assert all(re.search(rf"^  {verb}\b", output, re.MULTILINE) for verb in VERBS)
    assert all(f"  {code} " in output for code in (0, 1, 2, 3, 130))
    assert "\\b" not in output


def test_flags_are_frozen() -> None:
    assert {name: flags(command) for name, command in commands(cli).items()} == FLAGS


def commands(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    context, result = click.Context(group), {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        grouped = isinstance(command, click.Group)
        if command.params or not grouped:
            result[f"{prefix}{name}"] = command
        if grouped:
            result.update(commands(command, f"{name} "))
    return result


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


NO_PATHS = ["~nosuchuser/x", "n" * 300, "a/" * 3000 + "x", "loop", "line\nbreak", "escape\x1b[31m"]


@pytest.mark.parametrize("name", NO_PATHS)
@pytest.mark.parametrize(
    "arguments",
    [
        ("judge",),
        ("report",),
        ("questions", "show"),
        ("organisms", "register"),
        ("organisms", "train", "--out", "out", "--base", "demo", "--data"),
        ("organisms", "train", "--data", "rows.jsonl", "--base", "demo", "--out"),
        ("judge", "rows.jsonl", "--out"),
    ],
)
def test_a_name_that_no_file_can_have_is_refused_in_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "rows.jsonl").write_text("")
    assert len(refused(run(*arguments, name))) < 1000


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes.\nBacktrace"
        ),
        ImportError("libarrow.so.2600: Cannot allocate memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_too_little_memory_is_one_line_that_says_what_takes_less(
    error: Exception, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("personaprobe.organisms.registry.registered_organisms", fail)
    message = refused(run("organisms", "list"))
    assert message.startswith("error: too little memory (")
    assert "--dtype bfloat16" in message
    assert "Backtrace" not in message


def test_too_little_memory_tells_that_finished_parts_are_kept(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("personaprobe.questions.catalog.find_texts", fail)
    assert "finished parts are kept" in refused(run("extract", "--texts", "open", "--sites", "1.resid_post"))
