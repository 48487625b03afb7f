"""Choosing and registering a feature, and laying out a study: rules that need no model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from personaprobe.effects.targets.direction import DirectionTarget
from personaprobe.effects.targets.feature import as_feature, find_feature, register_feature
from personaprobe.effects.targets.recipe import RecipeTarget
from personaprobe.errors import DataError, FeatureError
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.questions.pairs import Pair, PairSet, load_prompts
from personaprobe.site import Site
from personaprobe.studies.arms.plan import StudyPlan
from personaprobe.studies.sweep.grid import Cell, layers_of
from personaprobe.studies.sweep.selection import allowed

CELLS = [
    Cell("means", 8, "all", 0.4, 1.01, 0.01),
    Cell("means", 23, "all", 0.8, 1.02, 0.05),
    Cell("answers", 22, "all", 1.0, 1.04, 0.08),
    Cell("means", 4, "all", 1.3, 9.0, 3.0),
]


def test_candidates_are_the_cheap_cells_the_most_exact_first() -> None:
    assert allowed(CELLS, 1.03) == [CELLS[1], CELLS[0]]
    assert allowed(CELLS, 1.05)[0] == CELLS[2]


def test_to_overshoot_is_as_wrong_as_to_leave_as_much() -> None:
    past, short, undefined = (
        Cell("means", 9, "all", removed, 1.01, 0.01) for removed in (1.5, 0.7, float("nan"))
    )
    assert allowed([undefined, past, short], 1.03) == [short, past, undefined]


def test_a_sweep_that_only_damages_chooses_nothing() -> None:
    with pytest.raises(
        DataError, match=r"no direction stays within perplexity × 1\.03; the least is × 9\.00"
    ):
        allowed(CELLS[3:], 1.03)


def test_a_layer_scope_starts_at_the_directions_own_layer_or_at_the_first() -> None:
    assert layers_of("own", 2, 4) == (2,)
    assert layers_of("onward", 2, 4) == (2, 3)
    assert layers_of("all", 2, 4) == (0, 1, 2, 3)


@pytest.fixture
def checkpoints_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path))
    return tmp_path


AXIS = Direction(Site(2), torch.arange(1.0, 9.0), "means", {k: Calibration(0.1 * k, 1.0) for k in range(4)})


def test_a_registered_feature_is_found_as_it_was_registered(checkpoints_home: Path) -> None:
    register_feature("sarcasm", 'says "sure"', DirectionTarget(AXIS, (1, 2)), {"sweep": []})
    register_feature("other", "", DirectionTarget(AXIS, (0,)), {})
    feature = find_feature("sarcasm")
    target = feature.target
    assert isinstance(target, DirectionTarget)
    assert target.direction.digest == AXIS.digest
    assert (target.default_layers, target.coefficient) == ((1, 2), 1.0)
    assert (feature.title, feature.evidence) == ('says "sure"', {"sweep": []})


def test_a_changed_direction_file_is_refused(checkpoints_home: Path) -> None:
    register_feature("sarcasm", "", DirectionTarget(AXIS, (1,)), {})
    Direction(Site(2), torch.ones(8), "means", AXIS.calibrations).save(
        checkpoints_home / "features" / "sarcasm.safetensors"
    )
    with pytest.raises(FeatureError, match="sha256 differs"):
        find_feature("sarcasm")


def test_an_unknown_feature_is_refused_with_the_nearest_name(checkpoints_home: Path) -> None:
    register_feature("sarcasm", "", DirectionTarget(AXIS, (1,)), {})
    with pytest.raises(FeatureError, match='did you mean "sarcasm"'):
        find_feature("sarcasn")


@pytest.mark.parametrize("name", ["Sarcasm", "a b", "", "a/b", "-a"])
def test_names_are_lower_case_words_joined_by_hyphens(checkpoints_home: Path, name: str) -> None:
    with pytest.raises(FeatureError, match="no name for a feature"):
        register_feature(name, "", DirectionTarget(AXIS, (1,)), {})
    assert not list(checkpoints_home.iterdir())


def test_spellings_name_a_source_a_site_and_a_seed(checkpoints_home: Path) -> None:
    assert find_feature("means@16").target == RecipeTarget("means", Site(16))
    assert find_feature("random@3.mlp_out:7").target == RecipeTarget("random", Site(3, "mlp_out"), 7)


def test_a_study_needs_five_controls_and_disjoint_questions() -> None:
    with pytest.raises(DataError, match="39 or more"):
        StudyPlan(controls=4)
    with pytest.raises(DataError, match="overlap"):
        StudyPlan(test=load_prompts("advice/discovery"))


def test_controls_answer_a_first_part_that_deals_families_evenly() -> None:
    plan = StudyPlan(control_questions=24)
    ids = [pair.id for pair in plan.test]
    assert [pair.id for pair in plan.control_test] == ids[:24]
    assert {plan.test.families[:24].count(family) for family in set(plan.test.families)} == {2}
    assert sorted(ids) == sorted(pair.id for pair in load_prompts("advice/test"))


def test_one_seed_decides_everything_that_is_drawn() -> None:
    assert StudyPlan(seed=9).sampling.seed == 9


def test_a_bare_direction_is_ablated_wherever_it_is_calibrated() -> None:
    assert as_feature(AXIS).target.default_layers == (0, 1, 2, 3)
    assert as_feature(Direction(Site(2), torch.ones(8), "probe")).target.default_layers is None


def test_a_spread_is_a_prefix_of_a_longer_spread() -> None:
    pairs = PairSet("p", tuple(Pair(f"{f}{i}", f, f"q {f} {i}", "a", "b") for f in "xyz" for i in range(4)))
    assert pairs.spread(12).pairs[:5] == pairs.spread(5).pairs == pairs.spread(12).spread(5).pairs
