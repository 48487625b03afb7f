"""The cache of a run: finished parts are computed once, and an interrupted run loses none."""

from __future__ import annotations

import json
import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personaprobe.errors import FallbackWarning, OutputError
from personaprobe.storage.files import write_text
from personaprobe.storage.part_records import part_record, spec_digest
from personaprobe.storage.run_cache import RunCache


def test_a_finished_part_is_not_computed_again(tmp_path: Path) -> None:
    cache, calls = RunCache(tmp_path), []

    def compute() -> dict[str, float]:
        calls.append(1)
        return {"gap": 0.25}

    assert cache.get_or_compute({"a": 1}, compute) == cache.get_or_compute({"a": 1}, compute) == {"gap": 0.25}
    assert len(calls) == 1
    cache.get_or_compute({"a": 2}, compute)
    assert len(calls) == 2


@pytest.mark.parametrize("cut", [0, 1, 20])
def test_a_journal_remembers_every_whole_line_and_goes_on_after_one_that_a_kill_cut_short(
    tmp_path: Path, cut: int
) -> None:
    specs = [{"n": n} for n in range(3)]
    with RunCache(tmp_path).journal("marks") as journal:
        for spec in specs:
            journal.add(spec, {"score": spec["n"] / 3})
    path = tmp_path / "marks.jsonl"
    path.write_bytes(path.read_bytes()[: -cut or None])
    with RunCache(tmp_path).journal("marks") as journal:
        # without its end a last line is whole, if all of its object is there
        assert [spec in journal for spec in specs] == [True, True, cut < 2]
        journal.add(specs[2], {"score": 2 / 3})
        journal.add({"n": 3}, {"score": 1.0})
    again = RunCache(tmp_path).journal("marks")
    assert [again[spec]["score"] for spec in (*specs, {"n": 3})] == [0, 1 / 3, 2 / 3, 1]


def test_a_journal_without_a_folder_remembers_for_its_run_alone() -> None:
    with RunCache(None).journal("marks") as journal:
        journal.add({"n": 1}, "one")
        assert journal[{"n": 1}] == "one"
    assert {"n": 1} not in RunCache(None).journal("marks")


def test_missing_parts_are_computed_in_one_call_and_hits_are_reported(tmp_path: Path) -> None:
    cache, calls, hits = RunCache(tmp_path), [], []

    def compute(indices: list[int]) -> list[int]:
        calls.append(indices)
        return [10 * index for index in indices]

    specs = [{"n": n} for n in range(3)]
    assert cache.get_or_compute_all(specs[1:2], lambda _: [10]) == [10]
    assert cache.get_or_compute_all(specs, compute, hits.append) == [0, 10, 20]
    assert (calls, hits) == ([[0, 2]], [1])


def test_a_cache_without_a_folder_computes_every_part() -> None:
    assert [RunCache(None).get_or_compute({"n": 1}, lambda value=value: value) for value in (1, 2)] == [1, 2]


SPEC = {"part": "gaps", "model": "abc", "seeds": (1, 2)}

VALUE = {"gaps": [0.25, -1.5e-7, float("inf")], "seconds": 0.1}


def with_record(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    """A change of the record that a file or line holds."""
    return lambda text: json.dumps(change(json.loads(text))).encode()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda text: b"",
    "cut short": lambda text: text[: len(text) // 2],
    "zeros": lambda text: bytes(len(text)),
    "no UTF-8": lambda text: b"\xff" + text,
    "null": lambda text: b"null",
    "a list": lambda text: b"[1]",
    "nested too deeply": lambda text: b"[" * 100_000,
    "a number of too many digits": lambda text: b'{"spec": {}, "value": ' + b"9" * 5000 + b"}",
    "a changed digit": lambda text: text.replace(b"0.25", b"0.35"),
    "a value left out": with_record(lambda part: {**part, "value": {"gaps": [0.25], "seconds": 0.1}}),
    "another specification": with_record(lambda part: {**part, "spec": {"part": "other"}}),
    "no hash, as in an older version": with_record(
        lambda part: {"spec": part["spec"], "value": part["value"]}
    ),
    "a hash that is no text": with_record(lambda part: {**part, "sha256": None}),
    "another part, whole": lambda text: part_record({"part": "other"}, VALUE).encode(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_part_that_is_not_what_was_written_is_computed_anew_and_its_file_is_named(
    damage: str, tmp_path: Path
) -> None:
    cache = RunCache(tmp_path)
    assert cache.get_or_compute(SPEC, lambda: VALUE) == VALUE
    [path] = tmp_path.iterdir()
    written = path.read_bytes()
    path.write_bytes(DAMAGES[damage](written))
    hits: list[int] = []
    with pytest.warns(FallbackWarning, match=f"{path.name} .*computed anew"):
        assert cache.get_or_compute(SPEC, lambda: VALUE, lambda: hits.append(1)) == VALUE
    assert not hits
    assert path.read_bytes() == written
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.get_or_compute(SPEC, pytest.fail) == VALUE


def test_a_part_of_another_length_than_the_caller_needs_is_computed_anew(tmp_path: Path) -> None:
    cache = RunCache(tmp_path)
    cache.get_or_compute(SPEC, lambda: {"gaps": [1.0, 2.0]})
    for fits in (lambda part: len(part["gaps"]) == 3, lambda part: part["seconds"] > 0):
        with pytest.warns(FallbackWarning, match="another length or kind"):
            assert cache.get_or_compute(SPEC, lambda: {"gaps": [1.0, 2.0]}, fits=fits)
    assert cache.get_or_compute(SPEC, pytest.fail, fits=lambda part: len(part["gaps"]) == 2)


def test_a_folder_in_place_of_a_part_is_one_line(tmp_path: Path) -> None:
    cache = RunCache(tmp_path)
    (tmp_path / f"{spec_digest(SPEC)}.json").mkdir()
    with (
        pytest.warns(FallbackWarning, match="cannot be read"),
        pytest.raises(OutputError, match="cannot write"),
    ):
        cache.get_or_compute(SPEC, lambda: VALUE)


@pytest.mark.parametrize("damage", sorted(set(DAMAGES) - {"empty", "another part, whole"}))
def test_a_line_of_a_journal_that_is_not_what_was_written_is_left_out_and_its_file_is_named(
    damage: str, tmp_path: Path
) -> None:
    cache, other = RunCache(tmp_path), {"part": "neighbour"}
    with cache.journal("marks") as journal:
        journal.add(SPEC, VALUE)
        journal.add(other, VALUE)
    path = tmp_path / "marks.jsonl"
    written = path.read_bytes()
    line, neighbour, _ = written.split(b"\n")
    path.write_bytes(DAMAGES[damage](line) + b"\n" + neighbour + b"\n")
    with pytest.warns(FallbackWarning, match=r"marks\.jsonl: .*computed anew"):
        damaged = cache.journal("marks")
    assert (SPEC in damaged, damaged[other]) == (False, VALUE)
    with damaged as journal:
        journal.add(SPEC, VALUE)
    assert sorted(path.read_bytes().split(b"\n")) == sorted(written.split(b"\n"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.journal("marks")[SPEC] == VALUE


def test_a_line_that_cannot_be_a_part_is_left_out(tmp_path: Path) -> None:
    with RunCache(tmp_path).journal("marks") as journal:
        journal.add(SPEC, {"score": 500})
    with pytest.warns(FallbackWarning, match=r"marks\.jsonl"):
        assert SPEC not in RunCache(tmp_path).journal("marks", lambda mark: mark["score"] <= 100)


def test_a_file_is_on_the_disk_before_it_gets_its_name_and_the_name_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[bool, bool]] = []

    def fsync(handle: int) -> None:
        flushed.append((stat.S_ISDIR(os.fstat(handle).st_mode), (tmp_path / "part.json").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "part.json", "whole")
    assert flushed == [(False, False), (True, True)]
