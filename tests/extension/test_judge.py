"""An outside package adds a judge with public names only: by a registration call, or by an entry point."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import personaprobe as pp
from installing import install
from personaprobe.cli.main import cli
from personaprobe.models.loading import Placement


class LengthJudge:
    """Scores an answer by its number of words; an outside package would have it in a file of its own."""

    batch_size = 1

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.name = f"length:{longest}"

    def judge(self, cases: Sequence[pp.Case]) -> Iterator[pp.Scored | pp.Unscored]:
        for case in cases:
            n = len(case.answer.split())
            if n:
                yield pp.Scored(100 * min(n / self.longest, 1), raw=f"{n} words")
            else:
                yield pp.Unscored("empty answer")


def open_length_judge(argument: str, placement: Placement, concurrency: int) -> LengthJudge:
    return LengthJudge(int(argument or 10))


MODULE = """
import personaprobe as pp

class PoliteJudge:
    name, batch_size = "polite:1", 1

    def judge(self, cases):
        return (pp.Scored(100.0 if "please" in case.answer else 0.0) for case in cases)

def open_judge(argument, placement, concurrency):
    return PoliteJudge()
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package on the path that declares the entry point ``polite``, and one that cannot be imported."""
    points = "[personaprobe.judges]\npolite = polite_judge:open_judge\nbroken = no_such_module:open_judge\n"
    install(tmp_path, "polite_judge", MODULE, points)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personaprobe.effects.judges.registry.JUDGES._registered", {})
    pp.register_judge("length", open_length_judge)


def judge_file(folder: Path, name: str) -> tuple[Result, list[dict[str, str]]]:
    (folder / "r.csv").write_text("question,answer\nHow?,please go on\nHow?,no\n")
    options = ["--judge", name, "--work", str(folder / "work"), "--json", "--quiet"]
    result = CliRunner().invoke(cli, ["judge", str(folder / "r.csv"), *options])
    written = folder / "r.judged.csv"
    return result, list(csv.DictReader(written.open(encoding="utf-8"))) if written.exists() else []


def test_a_registered_judge_is_opened_by_name_with_its_argument(registered: None) -> None:
    judge = pp.find_judge("length:4", Placement())
    assert isinstance(judge, pp.Judge)
    assert judge.name == "length:4"
    assert pp.find_judge("length", Placement()).name == "length:10"


def test_the_command_line_takes_a_registered_judge_and_keeps_its_raw_output(
    registered: None, tmp_path: Path
) -> None:
    result, rows = judge_file(tmp_path, "length:4")
    assert json.loads(result.stdout)["judge"] == "length:4"
    assert [(row["aligned"], row["aligned_raw"]) for row in rows] == [
        ("75.0", "3 words"),
        ("25.0", "1 words"),
    ]
    assert all(len(row["aligned_prompt_digest"]) == 16 for row in rows)


def test_an_installed_package_adds_a_judge_by_its_entry_point(installed: None, tmp_path: Path) -> None:
    result, rows = judge_file(tmp_path, "polite")
    assert json.loads(result.stdout)["judge"] == "polite:1"
    assert [row["aligned"] for row in rows] == ["100.0", "0.0"]


def test_entry_points_are_imported_only_when_their_judge_is_opened(installed: None) -> None:
    assert pp.find_judge("polite", Placement()).name == "polite:1"
    with pytest.raises(
        pp.PersonaProbeError, match="'broken' of no_such_module:open_judge cannot be imported"
    ):
        pp.find_judge("broken", Placement())


def test_an_unknown_judge_is_refused_by_name_with_the_nearest_one(
    registered: None, installed: None, tmp_path: Path
) -> None:
    with pytest.raises(pp.PersonaProbeError, match=r"no judge 'lenght:4': did you mean \"length\"\?.*polite"):
        pp.find_judge("lenght:4", Placement())
    result, _ = judge_file(tmp_path, "lenght")
    assert result.exit_code == 2
    assert 'did you mean "length"?' in result.stderr


@pytest.mark.parametrize(("name", "message"), [("embedded", "another judge"), ("a:b", "letters, digits")])
def test_names_that_are_taken_or_hold_a_colon_are_refused(name: str, message: str, registered: None) -> None:
    with pytest.raises(pp.PersonaProbeError, match=message):
        pp.register_judge(name, open_length_judge)


def test_a_name_is_registered_by_one_judge_only_and_by_that_one_as_often_as_it_likes(
    registered: None,
) -> None:
    pp.register_judge("length", open_length_judge)
    with pytest.raises(pp.PersonaProbeError, match="another judge"):
        pp.register_judge("length", lambda argument, placement, concurrency: LengthJudge(1))


def test_an_opener_that_returns_no_judge_is_refused(registered: None) -> None:
    pp.register_judge("nothing", lambda argument, placement, concurrency: object())  # type: ignore[arg-type, return-value]
    with pytest.raises(pp.PersonaProbeError, match="opened as object, which is no Judge"):
        pp.find_judge("nothing", Placement())
