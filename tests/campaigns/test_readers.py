"""Every reader of strangers' files under a few random changes; the campaign goes on where this stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from campaigns.campaign import all_readers
from campaigns.fuzzing import Reader, fuzz, outcome
from personaprobe.errors import DataError
from type_checker import unchecked_types

N_INPUTS = 25


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    return {reader.name: reader for reader in all_readers(tmp_path_factory.mktemp("readers") / "trio")}


@unchecked_types()
def test_every_reader_gives_the_right_value_or_one_error_of_ours(
    readers: dict[str, Reader], tmp_path: Path
) -> None:
    n_accepted = 0
    for number, reader in enumerate(readers.values()):
        tally = fuzz(reader, 0, max(4, round(N_INPUTS * reader.share)), tmp_path / str(number))
        assert tally.failures == ()
        assert tally.tried == tally.accepted + tally.refused
        n_accepted += tally.accepted
    assert n_accepted > 100, "changes that are always refused say nothing of what is accepted"


# Would the campaign notice?


def broken(reader: Reader, read: Callable[[Path], Any]) -> Reader:
    return replace(reader, read=read)


@pytest.fixture
def parts(readers: dict[str, Reader]) -> Reader:
    return readers["parts of runs"]


def test_another_exception_is_a_failure(parts: Reader, tmp_path: Path) -> None:
    def read(folder: Path) -> Any:
        raise KeyError("x")

    assert outcome(broken(parts, read), parts.write(tmp_path), 0) == ({}, "KeyError: 'x'")


def test_a_hang_is_a_failure(parts: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(folder: Path) -> Any:
        while True:
            pass

    monkeypatch.setattr("campaigns.fuzzing.SECONDS", 0.1)
    assert outcome(broken(parts, read), parts.write(tmp_path), 0) == ({}, "longer than 0.1 s")


def test_a_wrong_value_is_a_failure(parts: Reader, tmp_path: Path) -> None:
    value = parts.read(parts.write(tmp_path))
    counts, problem = outcome(broken(parts, lambda _: replace(value, value=[1])), tmp_path, 0)
    assert counts == {"accepted": 1, "checked": 1}
    assert problem is not None


def test_a_refusal_without_words_is_a_failure(parts: Reader, tmp_path: Path) -> None:
    def read(folder: Path) -> Any:
        raise DataError(" ")

    assert outcome(broken(parts, read), parts.write(tmp_path), 0) == (
        {"refused": 1},
        "a refusal without words",
    )


def test_a_reader_that_fails_on_valid_files_ends_its_campaign(parts: Reader, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="valid files are read wrongly"):
        fuzz(replace(parts, wrong=lambda *_: "other numbers"), 0, 5, tmp_path)


def test_equal_seeds_try_equal_inputs(parts: Reader, tmp_path: Path) -> None:
    seen: list[list[bytes]] = []
    for seed in (1, 1, 2):
        seen.append([])

        def read(folder: Path) -> Any:
            seen[-1].append((folder / "part.json").read_bytes())
            return parts.read(folder)

        fuzz(broken(parts, read), seed, 20, tmp_path / str(len(seen)))
    assert seen[0] == seen[1] != seen[2]
