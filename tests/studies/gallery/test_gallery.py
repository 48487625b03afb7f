"""A gallery: the sentence names what the intervals show, and nothing else."""

from __future__ import annotations

from personaprobe.statistics.intervals import Interval
from personaprobe.storage.plain_json import to_plain_json
from personaprobe.studies.gallery.member import Member, Removal
from personaprobe.studies.reports.gallery import percent_text, sentence

UNDEFINED = Interval(float("nan"), float("nan"), float("nan"))


def removal(value: float, half: float = 0.1) -> Removal:
    shift = Interval(0.2, 0.15, 0.25)
    return Removal(shift, shift.scaled(value), Interval(value, value - half, value + half))


def member(name: str, shift: float, removed: dict[str, float], controls: float = 0.0) -> Member:
    shifts = {"test": Interval(shift, shift - 0.05, shift + 0.05)}
    removals = {key: removal(value) for key, value in removed.items()}
    return Member(
        name, 0, shifts, shifts["test"], removals, Interval(controls, controls - 0.1, controls + 0.1), 6, {}
    )


def test_a_direction_that_removes_another_organism_s_shift_is_named() -> None:
    members = [
        member("one", 0.2, {"one": 0.8, "two": 0.7, "three": 0.0}),
        member("two", 0.2, {"one": 0.05, "two": 0.9, "three": 0.0}),
        member("three", 0.02, {"one": 0.9, "two": 0.9, "three": 0.9}),
    ]
    text = sentence(members)
    assert "2 of 3 organisms shifted on the test questions (one, two)" in text
    assert "matched controls in 2 of them (one, two)" in text
    assert text.endswith("directions found elsewhere do: that of two in one.")


def test_a_direction_that_removes_no_more_than_its_controls_is_not_named() -> None:
    text = sentence([member("one", 0.2, {"one": 0.95, "two": 0.75}, controls=0.6)])
    assert "in 1 of them (one)" in text, "the direction of one removes 95 %, controls at most 70 %"
    assert text.endswith("do: none.")


def test_without_a_shift_there_is_nothing_to_explain() -> None:
    assert sentence([member("one", 0.0, {"one": 0.9})]).startswith("No organism shifted")


def test_a_share_without_a_shift_is_a_dash() -> None:
    assert percent_text(to_plain_json(UNDEFINED.to_dict())) == "–"


def test_two_seeds_have_two_names() -> None:
    shifts = {"test": Interval(0.1, 0.0, 0.2)}
    names = [Member("one", seed, shifts, shifts["test"], {}, UNDEFINED, 0, {}).name for seed in (0, 1)]
    assert names == ["one", "one-1"]
