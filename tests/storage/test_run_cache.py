"""The cache of a run: finished parts are computed once, and an interrupted run loses none."""

from __future__ import annotations

from pathlib import Path

import pytest

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
