"""The arms of a study on a tiny trio: matched controls, parts of the ablation, the ablation elsewhere, found again."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import personaprobe as pp
from personaprobe.effects.measures.preference import preference_gaps
from personaprobe.effects.targets.discovery import Discovery
from personaprobe.effects.targets.feature import Feature
from personaprobe.errors import FeatureError
from personaprobe.features.directions.direction import Direction
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import Pair, PairSet
from personaprobe.questions.texts import TextSet
from personaprobe.studies.arms.arm import Arm, identity
from personaprobe.studies.arms.comparisons import selected_control as selection
from personaprobe.studies.arms.comparisons.iterated_ablation import iterated_arms
from personaprobe.studies.arms.comparisons.logit_bias import logit_bias_result
from personaprobe.studies.arms.comparisons.selected_control import n_candidates, selected_control
from personaprobe.studies.arms.controls import candidate_controls, deciding_controls
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.arms.study_arms import StudyArms
from personaprobe.studies.arms.treatment import Treatment

WORDS = [f"w{number}" for number in range(40)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONAPROBE_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def trio(
    tiny_trio: Callable[..., Trio[LanguageModel]], word_tokenizer: Callable[..., ChatTokenizer]
) -> Trio[LanguageModel]:
    return tiny_trio(word_tokenizer(WORDS), 0.05)


def made_pairs(name: str, seed: int, n: int = 12) -> PairSet:
    drawn = random.Random(seed)
    pairs = (
        Pair(f"{name}{i}", f"{name} {i % 3}", *(" ".join(drawn.choices(WORDS, k=6)) for _ in range(3)))
        for i in range(n)
    )
    return PairSet(name, tuple(pairs))


@pytest.fixture(scope="module")
def plan() -> pp.StudyPlan:
    return pp.StudyPlan(
        test=made_pairs("test", 6),
        discovery=made_pairs("discovery", 7),
        neutral=TextSet("texts", ("w1 w2 w3 w4", "w5 w6 w7")),
        narrow=None,
        samples=0,
    )


@pytest.fixture
def arms(trio: Trio[LanguageModel], plan: pp.StudyPlan) -> StudyArms:
    treatment = Treatment.of(trio, pp.find_feature("means@1"), plan)
    return StudyArms(trio, treatment, plan.discovery.spread(4))


def removed(arm: Arm, questions: PairSet) -> np.ndarray:
    return np.asarray(preference_gaps(arm.untreated, questions) - preference_gaps(arm.model, questions))


def test_controls_remove_the_features_energy_and_none_is_drawn_twice(arms: StudyArms) -> None:
    main = arms.main()
    controls = arms.controls(deciding_controls(9, 0), main)
    energies = [arm.energy.response.energy for arm in controls]
    assert energies == pytest.approx([main[-1].energy.response.energy] * 9, rel=1e-3)
    assert len({str(identity(arm)) for arm in [*main, *controls]}) == 13


def test_the_ablation_elsewhere_is_the_very_intervention_in_the_other_checkpoints(
    arms: StudyArms, trio: Trio[LanguageModel]
) -> None:
    ablated = arms.main()[-1]
    controls = arms.controls(deciding_controls(3, 0), [])
    elsewhere = arms.elsewhere(controls)
    assert [(arm.role, arm.kind) for arm in elsewhere] == [
        ("base", "ablated elsewhere"),
        ("secure", "ablated elsewhere"),
        *[("base", "control elsewhere")] * 3,
        *[("secure", "control elsewhere")] * 3,
    ]
    for arm in elsewhere:
        assert arm.untreated is trio[arm.role]
    assert elsewhere[0].interventions == ablated.interventions == elsewhere[1].interventions
    assert [arm.interventions for arm in elsewhere[2:5]] == [arm.interventions for arm in controls]


def test_a_target_with_layers_of_its_own_has_no_last_block_to_itself(
    arms: StudyArms, trio: Trio[LanguageModel], plan: pp.StudyPlan
) -> None:
    assert [arm.name for arm in arms.variants()] == ["mean shift only", "last block only"]
    direction = Direction(pp.Site(1), torch.arange(1.0, 33.0), "loose")
    at_zero = Feature("loose", pp.DirectionTarget(direction, (1,), to="zero"))
    loose = StudyArms(trio, Treatment.of(trio, at_zero, plan), plan.discovery.spread(4))
    assert "last block only" in [arm.name for arm in loose.variants()]


def test_the_last_block_alone_is_edited_at_the_last_block_alone(
    arms: StudyArms, trio: Trio[LanguageModel]
) -> None:
    last = arms.variants()[-1]
    (intervention,) = last.interventions
    assert [site.layer for site in intervention.edits(trio.base.n_layers)] == [trio.base.n_layers - 1]


def test_a_direction_that_is_found_again_is_orthogonal_and_ablated_beside_those_before_it(
    arms: StudyArms, plan: pp.StudyPlan
) -> None:
    again = iterated_arms(arms, Discovery(plan.discovery), 2)
    axis = arms.treatment.target.axis
    assert axis is not None
    vectors = [axis.vector]
    for count, arm in enumerate(again, 2):
        assert len(arm.interventions) == count
        assert arm.interventions[0] == arms.measured.ablation
        vectors.append(arm.interventions[-1].direction.vector)  # type: ignore[attr-defined]
    gram = torch.stack(vectors) @ torch.stack(vectors).T
    assert torch.allclose(gram, torch.eye(3), atol=1e-4)
    energies = [arm.energy.response.energy for arm in (arms.main()[-1], *again)]
    assert energies == sorted(energies)


def test_after_two_rounds_less_of_the_difference_of_means_is_left_than_after_one(
    arms: StudyArms, plan: pp.StudyPlan, trio: Trio[LanguageModel]
) -> None:
    discovery, site = Discovery(plan.discovery), arms.treatment.target.site

    def distance(arm: Arm) -> float:
        model = trio.insecure.edited(*arm.interventions)
        stores = [pp.record(m, discovery.questions, [site]) for m in (model, trio.secure)]
        return float((stores[0].mean(site) - stores[1].mean(site)).norm())

    rounds = [arms.main()[1], arms.main()[-1], *iterated_arms(arms, discovery, 2)]
    distances = [distance(arm) for arm in rounds]
    # one round may bring some of it back
    assert distances[0] == max(distances)
    assert distances[-1] < 0.9 * distances[1]


def test_where_all_candidates_answer_all_questions_the_one_that_removes_most_is_selected(
    arms: StudyArms, plan: pp.StudyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "ROUNDS", ((1.0, len(plan.discovery)),))
    monkeypatch.setattr(selection, "MATCHING_TEXTS", len(arms.texts))
    (best,) = selected_control(arms, arms.main(), 8, plan.discovery, RunContext(), 0)
    assert (best.name, best.kind, best.role) == ("best of 8 candidates", "selected", "insecure")
    candidates = arms.controls(candidate_controls(8, 0), arms.main())
    by_candidate = [float(removed(arm, plan.discovery).mean()) for arm in candidates]
    assert float(removed(best, plan.discovery).mean()) == pytest.approx(max(by_candidate), abs=1e-6)
    assert max(by_candidate) > sorted(by_candidate)[-2]


def test_candidates_are_dropped_round_by_round_and_the_rest_answer_more_questions() -> None:
    shares, questions = zip(*selection.ROUNDS, strict=True)
    assert shares[0] == 1.0
    assert list(shares) == sorted(shares, reverse=True)
    assert list(questions) == sorted(set(questions))


def test_a_feature_that_was_not_chosen_has_no_selected_control(arms: StudyArms, plan: pp.StudyPlan) -> None:
    assert selected_control(arms, [], 1, plan.discovery, RunContext(), 0) == []


@pytest.mark.parametrize(
    ("evidence", "n"),
    [
        ({}, 1),
        ({"candidates": 7, "sweep": [1] * 9}, 7),
        ({"sweep": [1] * 100}, 100),
        ({"singles": [1] * 64}, 64),
    ],
)
def test_the_evidence_tells_how_many_candidates_a_feature_was_chosen_from(
    evidence: dict[str, object], n: int
) -> None:
    target = pp.find_feature("means@1").target
    assert n_candidates(Feature("any", target, evidence=evidence)) == n


def test_given_directions_are_matched_as_controls_and_left_out_where_a_target_takes_none(
    arms: StudyArms, monkeypatch: pytest.MonkeyPatch
) -> None:
    direction = Direction(pp.Site(1), torch.arange(1.0, 33.0), "another")
    (arm,) = arms.along([("feature of another", direction)], "organism")
    assert arm.energy.response.energy == pytest.approx(arms.main()[-1].energy.response.energy, rel=1e-3)
    monkeypatch.setattr(
        type(arms.treatment.target),
        "control_along",
        lambda *_: (_ for _ in ()).throw(FeatureError("none")),
    )
    assert arms.along([("feature of another", direction)], "organism") == []


def test_the_arm_of_a_logit_bias_is_kept_and_known_by_its_questions(
    trio: Trio[LanguageModel], plan: pp.StudyPlan, tmp_path: Path
) -> None:
    run = RunContext.of(tmp_path)
    first = logit_bias_result(trio, plan.discovery, plan.control_test, run)
    assert len(first.gaps) == len(plan.control_test)
    assert logit_bias_result(trio, plan.discovery, plan.control_test, run) == first
    other = logit_bias_result(trio, plan.discovery.spread(3), plan.control_test, run)
    assert other.gaps != first.gaps
