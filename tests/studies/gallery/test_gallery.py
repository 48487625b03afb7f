"""A gallery: the sentence names what the intervals show, and nothing else; every comparison has controls of its own."""

from __future__ import annotations

import pytest
import torch

from personaprobe.features.directions.direction import Direction
from personaprobe.models.weights.checkpoint import Checkpoint, Trio
from personaprobe.organisms.organism import QuestionSets
from personaprobe.site import Site
from personaprobe.statistics.intervals import UNDEFINED, Interval
from personaprobe.storage.plain_json import to_plain_json
from personaprobe.studies.gallery.member import Member
from personaprobe.studies.gallery.removals import Removal, Removals, removals_of
from personaprobe.studies.gallery.study import Entry, GalleryPlan, shown_directions, site_of
from personaprobe.studies.reports.cells import percent_text
from personaprobe.studies.reports.gallery import gallery_data, removal_table, sentence

FEATURE = "toxic-persona"


def interval(value: float, half: float = 0.1) -> Interval:
    return Interval(value, value - half, value + half)


def member(
    name: str,
    removed: dict[str, float],
    controls: dict[str, float],
    shift: float = 0.2,
    seed: int = 0,
) -> Member:
    """A member whose ablations remove these shares, and whose controls these."""
    whole = interval(shift, 0.05)
    removals = {
        key: Removal(
            whole.scaled(value), interval(value), interval(controls[key]) if key in controls else None
        )
        for key, value in removed.items()
    }
    return Member(name, seed, {"test": whole}, whole, {"test": Removals(whole, removals)}, {})


def test_the_sentence_names_directions_that_exceed_their_own_controls() -> None:
    members = [
        member("one", {"one": 0.8, FEATURE: 0.7}, {"one": 0.0, FEATURE: 0.0}),
        member("two", {"two": 0.5, FEATURE: 0.9}, {"two": 0.45, FEATURE: 0.1}),
        member("three", {"three": 0.9, FEATURE: 0.9}, {"three": 0.0, FEATURE: 0.0}, shift=0.02),
    ]
    assert sentence(members, "test", FEATURE) == (
        "On test questions 2 of 3 organisms shifted (one, two); beyond matched controls, the organism's own direction "
        "removes a part of the shift of one, and toxic-persona of one, two."
    )


def test_a_direction_without_controls_explains_nothing() -> None:
    text = sentence([member("one", {"one": 0.95, FEATURE: 0.95}, {})], "test", FEATURE)
    assert text.endswith("removes a part of the shift of none, and toxic-persona of none.")


def test_controls_that_add_to_a_shift_do_not_make_a_direction_explain_it() -> None:
    text = sentence([member("one", {"one": 0.05}, {"one": -0.6})], "test", None)
    assert text.endswith("removes a part of the shift of none."), "the interval of the share holds 0"


def test_without_a_shift_there_is_nothing_to_explain() -> None:
    text = sentence([member("one", {"one": 0.9}, {"one": 0.0}, shift=0.0)], "test", FEATURE)
    assert text == "On test questions no organism shifted: there is nothing to explain."


def test_a_table_shows_own_direction_and_feature_beside_their_controls_and_others_alone() -> None:
    members = [
        member("one", {"one": 0.8, FEATURE: 0.7}, {"one": 0.1, FEATURE: 0.2}),
        member("one", {"one": 0.3, FEATURE: 0.4, "one-1": 0.6}, {"one-1": 0.05, FEATURE: 0.1}, seed=1),
    ]
    plan = GalleryPlan(QuestionSets("discovery", "test"), Site(16), FEATURE)
    data = to_plain_json(gallery_data(members, plan))
    table = removal_table(data, "test")
    assert table.head == ("ablated in", "own", "controls of own", FEATURE, f"controls of {FEATURE}", "one")
    values = [[cell.split(" ")[0] for cell in row] for row in table.rows]
    assert values == [["one", "80", "10", "70", "20", "80"], ["one-1", "60", "5", "40", "10", "30"]]


def test_a_feature_that_fits_no_organism_is_neither_a_column_nor_in_the_sentence() -> None:
    plan = GalleryPlan(QuestionSets("discovery", "test"), Site(16), FEATURE)
    data = to_plain_json(gallery_data([member("one", {"one": 0.8}, {"one": 0.0})], plan))
    assert data["feature"] is None
    assert FEATURE not in data["sentence"]
    assert removal_table(data, "test").head == ("ablated in", "own", "controls of own", "one")


def test_a_share_without_a_shift_is_a_dash() -> None:
    assert percent_text(to_plain_json(UNDEFINED.to_dict())) == "–"
    assert percent_text(None) == "–"


def test_two_seeds_have_two_names() -> None:
    assert [member("one", {}, {}, seed=seed).name for seed in (0, 1)] == ["one", "one-1"]


def test_columns_are_each_recipe_s_first_seed_and_the_feature() -> None:
    checkpoint = Checkpoint("demo")
    entries = [
        Entry(name, seed, Trio(checkpoint, checkpoint, checkpoint, name))
        for name, seed in (("a", 2), ("a", 1), ("b", 0))
    ]
    directions = dict.fromkeys(("a-2", "a-1", "b", FEATURE), Direction(Site(1), torch.ones(4), "means"))
    assert shown_directions(entries, directions) == ["a-1", "b", FEATURE]


def test_every_direction_is_compared_with_its_own_controls() -> None:
    gaps = {"own": (0.2, 0.6, 0.7), "other": (0.9, 1.0, 0.98), "shown": (0.5,)}
    treated = {name: [[gap] * 6 for gap in of_direction] for name, of_direction in gaps.items()}
    removals = removals_of([1.0] * 6, [0.0] * 6, treated, list("aabbcc"))
    assert removals.shift.value == pytest.approx(1)
    assert {name: one.share.value for name, one in removals.by_direction.items()} == pytest.approx(
        {"own": 0.8, "other": 0.1, "shown": 0.5}
    )
    controls = {name: one.controls for name, one in removals.by_direction.items()}
    assert controls.pop("shown") is None
    assert {name: one.value for name, one in controls.items() if one} == pytest.approx(
        {"own": 0.35, "other": 0.01}
    )


@pytest.mark.parametrize(
    ("feature", "n_layers", "layer"), [(None, 30, 16), ("toxic-persona", 30, 26), ("toxic-persona", 10, 6)]
)
def test_directions_are_taken_where_the_feature_was_found(
    feature: str | None, n_layers: int, layer: int
) -> None:
    assert site_of(feature, n_layers) == Site(layer, "resid_post")
