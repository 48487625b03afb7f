"""The quick ones of the cases from public bug reports, and proof that a case that does not hold is reported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from campaigns import cases
from campaigns.case_inputs.all_cases import CASES
from campaigns.case_inputs.commands import adapter
from campaigns.forked import ForkServer
from campaigns.small_runs import Workplace, workplace

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked as on Linux")


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as started:
        yield started


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, server: ForkServer) -> Iterator[Workplace]:
    with workplace(tmp_path_factory.mktemp("cases")) as built:
        cases.warm(built, server)
        yield built


@pytest.mark.filterwarnings("ignore")
def test_every_quick_case_is_right(place: Workplace, server: ForkServer) -> None:
    quick = [case for case in CASES if not case.is_slow]
    outcomes = list(cases.run_cases(quick, place, server))
    tallies = cases.tallies(outcomes)
    assert [failure for tally in tallies for failure in tally.failures] == []
    assert sum(tally.tried for tally in tallies) == len(quick)
    written = cases.table(outcomes)
    assert written.count("\n") == len(quick) + 2
    assert str(place.run.parent) not in written, "placeholders stand for paths"


def test_every_collected_number_has_a_case() -> None:
    numbers = {case.number for case in CASES}
    assert {*map(str, range(1, 26)), *(f"E{n}" for n in range(1, 10))} <= numbers


def rank_zero(**expected: object) -> cases.Case:
    wrong = {"code": 2, "says": "r is 0"} | expected
    return cases.Case("0", "adapters: rank 0", "traceback", adapter(r=0), **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expected", "reported"),
    [
        ({}, None),
        ({"code": 0}, "exit code 2 in place of 0"),
        ({"says": "r is 1"}, "does not say 'r is 1'"),
        ({"measure": lambda place, folder: ("off by 3", False)}, "off by 3"),
        ({"measure": lambda place, folder: 1 / 0}, "ZeroDivisionError"),
    ],
    ids=("right", "another code", "another reason", "another number", "an error"),
)
def test_a_case_that_is_not_right_is_reported(
    expected: dict[str, object], reported: str | None, place: Workplace, server: ForkServer, tmp_path: Path
) -> None:
    [outcome] = cases.run_cases([rank_zero(**expected)], replace(place, run=tmp_path / "run"), server)
    [tally] = cases.tallies([outcome])
    if reported is None:
        assert tally.failures == ()
        assert tally.refused == 1
    else:
        assert reported in tally.failures[0]
        assert "not right" in cases.table([outcome])
