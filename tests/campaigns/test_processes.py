"""Short parts of the campaigns of processes, and proof that these campaigns notice what they look for."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from campaigns import foreign_code
from campaigns.comparison import differences
from campaigns.disks import disks
from campaigns.forked import Ended, ForkServer
from campaigns.kills import Unbroken, kills
from campaigns.pickles import bare
from campaigns.registries import registries
from campaigns.small_runs import WRITING, Workplace, workplace
from campaigns.tally import Tally

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of processes are those of Linux")
CHEAP = {verb: WRITING[verb] for verb in ("features name", "judge")}


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as started:
        yield started


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    with workplace(tmp_path_factory.mktemp("processes")) as built:
        yield built


def failures(tallies: list[Tally]) -> list[str]:
    return [failure for tally in tallies for failure in tally.failures]


def test_killed_runs_end_with_the_files_of_unbroken_ones(server: ForkServer, tmp_path: Path) -> None:
    tallies = kills(1, 6, tmp_path / "kills", CHEAP, servers=(server, server))
    assert failures(tallies) == []
    assert sum(tally.tried for tally in tallies) >= 4


def test_runs_in_trouble_end_in_one_line_and_go_on_later(server: ForkServer, tmp_path: Path) -> None:
    only = ("full disk", "read-only folder", "deleted folder", "no working folder", "little memory")
    tallies = disks(1, 1, tmp_path / "disks", CHEAP, only, server)
    assert failures(tallies) == []
    assert all(tally.tried == 1 for tally in tallies)
    assert sum(tally.refused for tally in tallies) >= 2


def test_no_change_of_a_registry_is_lost(server: ForkServer, tmp_path: Path) -> None:
    tallies = registries(1, 1, tmp_path / "registries", 3, ("features.toml, names",), server)
    assert failures(tallies) == []
    assert [tally.accepted for tally in tallies] == [3]


def test_no_foreign_code_runs(server: ForkServer, place: Workplace) -> None:
    all_cases = dict(foreign_code.cases())
    tallies = foreign_code.run_cases(all_cases, place, server)
    assert failures(tallies) == []
    assert sum(tally.tried for tally in tallies) == len(all_cases)


# --- the campaigns notice -----------------------------------------------------------------------------------------


def test_a_run_of_another_result_is_reported(server: ForkServer, tmp_path: Path) -> None:
    meanings = iter(range(100))

    def names_differently(place: Workplace) -> list[object]:
        return ["features", "name", 5, f"meaning {next(meanings)}", "--sae", place.dictionary]

    [tally] = kills(1, 1, tmp_path / "kills", {"changing": names_differently}, servers=(server, server))
    assert tally.failures
    assert "features.toml differs" in tally.failures[0]


def test_a_run_that_is_refused_once_it_was_killed_is_reported(server: ForkServer, tmp_path: Path) -> None:
    runs = iter(range(100))

    def goes_wrong(place: Workplace) -> list[object]:
        return [*WRITING["features name"](place), *(["--no-such-option"] if next(runs) > 2 else [])]

    [tally] = kills(1, 1, tmp_path / "kills", {"refusing": goes_wrong}, servers=(server, server))
    assert tally.failures
    assert "--no-such-option" in tally.failures[0]


def test_a_refused_change_of_a_registry_is_reported(server: ForkServer, place: Workplace) -> None:
    place.clean()
    job = place.job(["features", "name", 5, "fine", "--sae", place.dictionary])
    assert server.run(job).code == 0
    registry = place.run / "checkpoints" / "features.toml"
    registry.write_text("[[")
    again = server.run(job)
    assert again.refusal is not None
    assert "features.toml" in again.refusal


@pytest.mark.parametrize(
    ("code", "err", "fault"),
    [
        (0, "note: slow", None),
        (-9, "", None),
        (2, "error: no", None),
        (2, "error: no\nerror: again", "without one line"),
        (2, "", "without one line"),
        (2, "warning\nerror: no", "more than an error"),
        (1, "", "exit code 1"),
        (-11, "", "exit code -11"),
        (1, "Traceback (most recent call last):\nKeyError: 'x'", "traceback: KeyError"),
        (0, "Traceback (most recent call last):\nKeyError: 'x'", "traceback: KeyError"),
    ],
)
def test_what_is_wrong_with_an_end_is_named(code: int, err: str, fault: str | None) -> None:
    found = Ended(code, "", err, 0.1).fault
    assert found is None if fault is None else fault in str(found)


def test_a_command_that_hangs_is_ended_and_reported(server: ForkServer, place: Workplace) -> None:
    place.clean()
    ended = server.run(replace(place.job(WRITING["judge"](place)), waits=60, deadline=0.2))
    assert (ended.is_late, ended.fault) == (True, "hung")


def test_code_that_runs_is_reported(server: ForkServer, place: Workplace) -> None:
    def runs(place: Workplace, folder: Path, marker: Path) -> list[object]:
        marker.write_text("ran")
        return ["features", "name", 5]

    [tally] = foreign_code.run_cases({("anything", "a case"): runs}, place, server)
    assert tally.failures == ("anything, a case: its code ran",)


def test_pickles_of_the_cases_would_run_if_they_were_trusted(tmp_path: Path) -> None:
    import pickle

    marker = tmp_path / "marker"
    pickle.loads(bare(marker))
    assert marker.read_text() == "ran"


# --- comparison ---------------------------------------------------------------------------------------------------


def _written(folder: Path, **contents: str) -> Path:
    for name, content in contents.items():
        path = folder / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def test_moments_and_durations_alone_may_differ(tmp_path: Path) -> None:
    record = {"spec": {"part": "x"}, "value": {"text": "a", "seconds": 0.1}, "sha256": "1"}
    other = {"spec": {"part": "x"}, "value": {"text": "a", "seconds": 0.3}, "sha256": "2"}
    page = "<p>made 2026-11-30T02:07:{}+00:00</p>"
    one = _written(tmp_path / "one", part__json=json.dumps(record), page__html=page.format(39))
    two = _written(tmp_path / "two", part__json=json.dumps(other), page__html=page.format(41))
    assert differences(one, two) == []
    other["value"] = {"text": "b", "seconds": 0.3}
    _written(two, part__json=json.dumps(other))
    assert differences(one, two) == ["part.json differs"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"a__json": '{"x": 2}'}, ["a.json differs"]),
        ({"b__bin": "y"}, ["b.bin differs"]),
        ({"__c__tmp": ""}, [".c.tmp is there too"]),
        (
            {"metrics__jsonl": '{"step": 1, "l0": 6}\n{"step": 1, "l0": 5}\n'},
            ["metrics.jsonl differs", "metrics.jsonl repeats a line or a step"],
        ),
    ],
)
def test_every_other_difference_is_named(change: dict[str, str], found: list[str], tmp_path: Path) -> None:
    one = _written(tmp_path / "one", a__json='{"x": 1}', b__bin="x", metrics__jsonl='{"step": 1}\n')
    shutil.copytree(one, tmp_path / "two")
    assert differences(one, tmp_path / "two") == []
    assert differences(one, _written(tmp_path / "two", **change)) == found


def test_a_run_that_writes_nothing_cannot_be_compared(server: ForkServer, place: Workplace) -> None:
    def writes_nothing(_: Workplace) -> list[object]:
        return ["completion", "bash"]

    with pytest.raises(AssertionError, match="writes nothing"):
        Unbroken.of("completion", place, server, writes_nothing)
