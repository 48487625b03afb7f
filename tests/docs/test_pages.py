"""The pages name only commands, flags, modules and files that exist."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from personaprobe.cli.main import VERBS, cli
from personaprobe.effects.verdict import rules

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "checkpoints/*.md", "tests/benchmarks/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"  # released versions had other flags and modules
)
CODE = re.compile(r"```\w*\n(?P<block>.*?)```|(?<!`)`(?P<inline>[^`\n]+)`(?!`)", re.DOTALL)
FROM_OUTSIDE = {"compare"}
"""Verbs that a how-to adds from another package."""
OTHER_TOOLS = re.compile(r"^\s*(pip|apt|make|python3?|pre-commit|chromium|git|\./|#)")
OLD_MODULES = {
    "docs/corrections.md": "the script at its end runs at the commit that it names",
}
"""Pages that name modules of an earlier version, and why."""


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def code(page: str) -> Iterator[str]:
    """Lines of code blocks, continued ones joined, and pieces of inline code."""
    for match in CODE.finditer(text_of(page)):
        joined = re.sub(r"\\\n\s*", " ", match["block"] or match["inline"])
        yield from joined.splitlines()


def commands() -> dict[str, set[str]]:
    """The flags of every command, by its words below ``personaprobe``."""
    return {" ".join(words): flags for words, flags in walk(cli, ())}


def walk(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    context = click.Context(command)
    options = [option for parameter in command.get_params(context) for option in parameter.opts]
    negated = [option for parameter in command.get_params(context) for option in parameter.secondary_opts]
    yield words, {*options, *negated, "--help", "-h"}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from walk(child, (*words, name))


COMMANDS = commands()
EVERY_FLAG = set().union(*COMMANDS.values())


def wrong_in(line: str) -> Iterator[str]:
    """Commands and flags in a line of code that do not exist."""
    for call in re.split(r"&&|\||;", line.partition(" #")[0]):
        words = call.split()
        if words[:1] != ["personaprobe"] or len(words) == 1:
            flags = [] if OTHER_TOOLS.match(call) else re.findall(r"(?<![\w-])--[a-z][\w-]*", call)
            yield from (flag for flag in flags if flag not in EVERY_FLAG)
            continue
        name = words[1]
        if len(words) > 2 and f"{name} {words[2]}" in COMMANDS:
            name = f"{name} {words[2]}"
        if name in FROM_OUTSIDE or name.startswith("-") or not name.replace(" ", "").isalpha():
            continue
        if name not in COMMANDS:
            yield f"personaprobe {name}"
            continue
        flags = re.findall(r"(?<![\w-])--[a-z][\w-]*", call)
        yield from (f"{name} {flag}" for flag in flags if flag not in COMMANDS[name])


def test_a_page_names_only_commands_and_flags_that_exist(page: str) -> None:
    assert [wrong for line in code(page) for wrong in wrong_in(line)] == []


def test_a_page_names_only_modules_and_files_that_exist(page: str) -> None:
    if page in OLD_MODULES:
        pytest.skip(OLD_MODULES[page])
    missing = []
    for line in code(page):
        for dotted in re.findall(r"\bpersonaprobe(?:\.[a-z_]\w*)+", line):
            if not module_exists(dotted):
                missing.append(dotted)
        for path in re.findall(r"(?<![\w./-])((?:[\w.-]+/)+[\w.-]+\.(?:py|md|json|toml|svg))\b", line):
            places = (
                ROOT / path,
                ROOT / "src/personaprobe" / path,
                ROOT / "checkpoints" / path,
                (ROOT / page).parent / path,
            )
            if not any(place.exists() for place in places) and not path.startswith(
                ("runs/", "my", "docs/_build/", "FOLDER/")
            ):
                missing.append(path)
    assert missing == []


def module_exists(dotted: str) -> bool:
    """A module, or a name inside one."""
    for name in (dotted, dotted.rpartition(".")[0]):
        try:
            if name and importlib.util.find_spec(name) is not None:
                return True
        except ModuleNotFoundError:
            continue
    return False


def test_a_page_links_only_to_files_that_exist(page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text_of(page))
    local = [link for link in links if "://" not in link]
    assert [
        link for link in local if not ((ROOT / page).parent / link).exists() and link != "security.md"
    ] == []


def test_the_page_of_the_command_line_names_every_verb() -> None:
    table = text_of("docs/cli.md").partition("## All options")[0]
    assert [verb for verb in VERBS if f"`{verb}" not in table and verb != "completion"] == []


def test_the_rules_on_the_page_are_the_rules_that_decide() -> None:
    rows = [f"| {place} | {verdict} | {words} |" for place, (verdict, words) in enumerate(rules(), 1)]
    assert [row for row in rows if row not in text_of("docs/verdict.md")] == []
