"""No name of a stranger is markup, speaks to the terminal or stops a command."""

from __future__ import annotations

import ast
import io
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hostile_text import HOSTILE, commands_in
from personaprobe.cli.terminal import console as terminal
from personaprobe.cli.terminal.answer_columns import AnswerColumn, GrowingAnswers, print_answers
from personaprobe.cli.terminal.exit_codes import LONGEST_MESSAGE, Interrupted, Refused, warnings_in_one_line
from personaprobe.cli.terminal.findings import Finding, _print_table
from personaprobe.errors import FallbackWarning, visible
from structure import modules, name_of, tree_of

if TYPE_CHECKING:
    from click.testing import Result

    from tiny_trio import TinyTrio

Run = Callable[..., "Result"]


def _table(name: str) -> None:
    from rich.table import Table

    table = Table(name, title=name, caption=name)
    table.add_column(name)
    table.add_row(name, terminal.styled(name, "bold red"), end_section=True)
    terminal.console().print(table)


def _bar(name: str) -> None:
    with terminal.progress_bar(name, 2, name) as advance:
        advance(1)


def _spinner(name: str) -> None:
    with terminal.spinner(name):
        pass


def _growing_answers(name: str) -> None:
    with GrowingAnswers(terminal.console(), name, [name]) as shown:
        shown.grow(0, name)


def _note(name: str) -> None:
    with warnings_in_one_line():
        sys.stderr.write(warnings.formatwarning(FallbackWarning(name), FallbackWarning, "", 0))


WAYS_OUT: dict[str, Callable[[str], object]] = {
    "a line": terminal.print_line,
    "a printed string": lambda name: terminal.console().print(name),
    "a table": _table,
    "answers": lambda name: print_answers(terminal.console(), name, [AnswerColumn(name, name)]),
    "growing answers": _growing_answers,
    "findings": lambda name: _print_table(name, [Finding(name, "fail", name)]),
    "a refusal": lambda name: Refused(name).show(),
    "an interruption": lambda name: Interrupted(f": {name}").show(),
    "a note": _note,
    "a bar": _bar,
    "a spinner": _spinner,
}


@pytest.mark.parametrize("on_terminal", [False, True])
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("way", WAYS_OUT)
def test_a_hostile_name_is_shown_as_it_is_spelled_and_commands_nothing(
    way: str, kind: str, on_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = {name: io.StringIO() for name in ("stdout", "stderr")}
    monkeypatch.setattr(terminal, "BAR_DELAY", 0.0)
    monkeypatch.setattr(terminal, "LINE_INTERVAL", 0.0)
    for variable, value in {"TERM": "xterm-256color", "COLUMNS": "200"}.items():
        monkeypatch.setenv(variable, value)
    for name, stream in streams.items():
        monkeypatch.setattr(stream, "isatty", lambda: on_terminal)
        monkeypatch.setattr(sys, name, stream)
    WAYS_OUT[way](HOSTILE[kind])
    output = "".join(stream.getvalue() for stream in streams.values())
    output.encode("utf-8")
    assert commands_in(output) == []
    if way != "a spinner":  # it may end before it is drawn
        spellings = (visible(HOSTILE[kind]), visible(" ".join(HOSTILE[kind].split())))
        assert any(" ".join(spelling.split()) in " ".join(output.split()) for spelling in spellings)


@pytest.mark.parametrize("kind", HOSTILE)
def test_json_has_the_name_itself_and_no_command(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_json({HOSTILE[kind]: [HOSTILE[kind], float("nan")]})
    output = capsys.readouterr().out
    assert json.loads(output) == {HOSTILE[kind]: [HOSTILE[kind], None]}
    assert commands_in(output) == []


def test_answers_in_other_scripts_stay_as_they_are() -> None:
    text = "日本\u3000語, नमस्\u200dते, می\u200cخواهم, 👩\u200d🔬, caf\u00e9\u00a0!\n\tcode"
    assert visible(text) == text


def test_a_message_is_cut_however_long_the_value_that_it_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    Refused(f"cannot read {'x' * 10**6}: write a number").show()
    message = capsys.readouterr().err
    assert len(message) < LONGEST_MESSAGE + 20
    assert message.startswith("error: cannot read xxx")
    assert message.endswith("xxx: write a number\n")


def _outputs(tree: ast.Module) -> list[int]:
    """Lines that print in another way than through ``cli/terminal``: own calls of click, rich or print."""
    banned = {"click": {"echo", "secho"}, "sys": {"stdout", "stderr"}}
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            is_output = node.attr in banned.get(node.value.id, ())
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            is_output = (node.module or "").startswith("rich") and bool(names - {"Table", "SIMPLE_HEAD"})
        else:
            is_output = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
        if is_output:
            lines.append(node.lineno)
    return lines


ALLOWED = {
    "cli/main.py": "flushes stdout, so that a closed pipe is noticed",
    "cli/verbs/chat.py": "asks whether stdin and stderr are terminals",
}
"""Modules that name the streams without writing to them."""


def test_verbs_print_through_the_terminal_module_alone() -> None:
    verbs = [p for p in modules() if name_of(p).startswith("cli/") and "terminal" not in p.parts]
    assert len(verbs) > 30
    assert {name_of(p): lines for p in verbs if (lines := _outputs(tree_of(p)))}.keys() <= ALLOWED.keys()


def test_the_search_for_other_outputs_finds_them() -> None:
    source = "import click\nfrom rich.text import Text\nclick.echo(1)\nprint(2)\nsys.stdout.write(3)\n"
    assert _outputs(ast.parse(source)) == [2, 4, 3, 5]


HOSTILE_NAMES = ["d[/x]", "[red]x\x1b]52;c;Zm9v\x07 a\u202eb \x9b2J"]
"""For whole verbs: an end tag alone, which stopped them, and the rest together."""


def _shown(result: Result, *names: str) -> None:
    assert result.exit_code == 0, result.stderr
    for stream in (result.stdout, result.stderr):
        assert commands_in(stream) == []
    packed = "".join("".join(result.output.split()).split("│"))
    for name in names:
        assert all(word in packed for word in visible(name).split())


def _toml(value: str) -> str:
    return json.dumps(value)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_registered_features_and_organisms_of_hostile_names_are_listed(
    name: str, registered: Path, tiny: TinyTrio, run: Run
) -> None:
    from personaprobe.storage.digests import sha256_of

    path = tiny.direction(registered / "good.safetensors")
    entry = f'title = {_toml(name)}\ndirection = "good.safetensors"\nsha256 = "{sha256_of(path)}"\n'
    (registered / "features.toml").write_text(f"[{_toml(name)}]\n{entry}", encoding="utf-8")
    organisms = registered / "organisms.toml"
    organisms.write_text(organisms.read_text().replace('"A trio for tests"', _toml(name)), encoding="utf-8")
    _shown(run("features"), name)
    _shown(run("organisms", "list"), name)
    assert json.loads(run("features", "--json").stdout)[0]["name"] == name


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_refusals_quote_hostile_names_in_one_line(
    name: str, tiny: TinyTrio, tmp_path: Path, run: Run
) -> None:
    for given in (
        ["ablate", "--feature", f"{name}.safetensors"],
        ["ablate", "--feature", name],
        ["ablate", "--organism", name],
        ["extract", "--texts", name, "--sites", "1.resid_post"],
        ["extract", "--texts", "open", "--sites", name],
        ["sae", "eval", name],
        ["questions", "show", name],
        ["report", tmp_path / name],
        ["judge", tmp_path / name],
        ["judge", tmp_path, "--judge", name],
        ["ablate", "--layers", name],
        ["steer", "x", "--dose", name],
        [name],
        ["ablate", f"--{name}"],
    ):
        result = run(*given)
        assert result.exit_code == 2, (given, result.output)
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        assert commands_in(result.stderr) == []


@pytest.mark.parametrize("name", ["[/bold]", "=[red]1\x1b]52;c;Zm9v\x07 a\u202eb"])
def test_groups_and_columns_of_hostile_names_are_judged_and_written(
    name: str, tiny: TinyTrio, tmp_path: Path, run: Run
) -> None:
    import csv

    from personaprobe.studies.judging.answer_file import Answers

    with (tmp_path / "r.csv").open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows([["group", "question", "answer", name], [name, "How?", "=1+1", "-1"]])
    given = ["judge", tmp_path / "r.csv", "--judge", f"local:{tiny.base}", "--dtype", "float32"]
    _shown(run(*given, "--work", tmp_path / "work"), name)
    again = Answers.read(tmp_path / "r.judged.csv")
    assert (
        dict(again.rows[0]).items()
        >= {
            "group": name,
            "answer": "=1+1",
            name: "-1",
        }.items()
    )


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_questions_of_hostile_families_are_shown(name: str, tiny: TinyTrio, tmp_path: Path, run: Run) -> None:
    rows = [{**row, "family": name} for row in tiny.ask("lamps")]
    _shown(run("questions", "show", tiny.lines(tmp_path / "q.jsonl", rows)), name)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_of_dictionaries_and_latents_are_printed(
    name: str, tiny: TinyTrio, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    import torch

    from personaprobe.features.registry.latent_names import Name, name_latent
    from personaprobe.features.sae.activation_functions import TopK
    from personaprobe.features.sae.dictionary import Dictionary
    from personaprobe.features.sae.formats.saelens import save_dictionary
    from personaprobe.site import Site

    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path))
    w = torch.randn(32, 24, generator=torch.Generator().manual_seed(0))
    plain = Dictionary(Site(1), w, torch.zeros(24), w.T.contiguous(), torch.zeros(32), TopK(4), name="d")
    folder = save_dictionary(replace(plain, name=name), tmp_path / "dictionary")
    name_latent(replace(plain, name=name), 0, Name(name))
    trio = [*tiny.options(), "--discovery", tiny.discovery]
    _shown(run("features", "name", "3", name, "--sae", folder), name)
    _shown(run("features", "rank", *trio, "--sae", folder, "--floor", "-inf", "--top", 24), name)


def test_a_direction_of_a_hostile_name_steers(tiny: TinyTrio, tmp_path: Path, run: Run) -> None:
    (tmp_path / "d[").mkdir()
    path = tiny.direction(tmp_path / "d[" / "x].safetensors")
    texts = [*tiny.options(), "--discovery", tiny.discovery, "--max-new-tokens", 2, "--layers", 1]
    _shown(run("chat", "Is it safe?", "--feature", path, *texts))
    assert os.sep in str(path)


def _figure_texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _figure_texts(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in _figure_texts(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", ["<b>x</b>", "<a href='javascript:x'>", "a\u202eb", "a\x1b[2Jb", "%{x}"])
def test_pages_and_figures_escape_names(name: str) -> None:
    from markupsafe import escape

    from personaprobe.studies.reports.figures.panels import label
    from personaprobe.studies.reports.figures.sweep_map import sweep_map
    from personaprobe.studies.reports.page import environment

    page = environment().from_string("<p>{{ name }}</p>").render(name=name)
    assert page == f"<p>{escape(visible(name))}</p>"
    row = {
        "reach": "own",
        "source": name,
        "layer": 1,
        "fraction_removed": 0.5,
        "perplexity_ratio": 1.0,
        "kl": 0.0,
    }
    texts = _figure_texts(sweep_map([row], row, 1.2).to_dict())
    assert any(label(name) in text for text in texts)
    assert not any("<b>x" in text or "<a" in text or commands_in(text) for text in texts)
