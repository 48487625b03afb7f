"""The self-test passes where studies find what was planted, and fails where the study is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

import personaprobe as pp
from personaprobe.effects.interventions.along_direction import Ablate
from personaprobe.effects.targets.direction import FittedDirection
from personaprobe.effects.verdict import Verdict
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.studies.ablation.result import CausalVerdict
from personaprobe.studies.planted.self_test import SelfTestPlan, TruthResult, self_test
from personaprobe.studies.planted.truths import TRUTHS, PlantedTruth
from tiny_questions import TEST, pairs, tiny_plan

IDENTICAL, PERSONA, _, RANDOM, SALAD, DIMENSION = TRUTHS


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SelfTestPlan:
    """A plan for tiny models, whose answers are noise: damage is not measured."""
    monkeypatch.setenv("PERSONAPROBE_HOME", str(tmp_path / "home"))
    studies = tiny_plan(decisive_only=True, null_controls=0, controls=45, samples=0)
    return SelfTestPlan(studies, pairs("held out", TEST))


def do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the ablation of every feature by one that goes no part of the way."""
    real = FittedDirection.ablation

    def nothing(
        self: FittedDirection, layers: Any = None, coefficient: float = 1.0, roles: Any = 5
    ) -> Ablate:
        return real(self, layers, 0.0, pp.Role(roles))

    monkeypatch.setattr(FittedDirection, "ablation", nothing)


@pytest.mark.parametrize("others", [(), pytest.param((RANDOM, DIMENSION), marks=pytest.mark.slow)])
def test_a_planted_persona_is_found_and_an_ablation_that_does_nothing_fails(
    others: tuple[PlantedTruth, ...],
    tiny_base: Callable[..., LanguageModel],
    plan: SelfTestPlan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # a random model varies much along any direction, so that a persona has to be large
    base, plan = tiny_base("llama"), replace(plan, shift=0.5)
    truth = replace(PERSONA, expected=("suppresses, damage not excluded",))
    [found] = self_test(base, plan, tmp_path / "real", [truth])
    assert found.passed, found.explanation
    do_nothing(monkeypatch)
    missed = list(self_test(base, plan, tmp_path / "broken", [truth, *others]))
    assert not any(result.passed for result in missed)
    assert missed[0].verdict is not None
    assert missed[0].verdict.fraction_removed.value == pytest.approx(0.0, abs=1e-3)


def test_identical_checkpoints_pass(
    tiny_base: Callable[..., LanguageModel], plan: SelfTestPlan, tmp_path: Path
) -> None:
    [result] = self_test(tiny_base("llama"), plan, tmp_path, [IDENTICAL])
    assert result.passed
    assert result.verdict is not None
    assert not result.verdict.fraction_removed.defined


@pytest.mark.parametrize("always", get_args(Verdict))
def test_a_study_that_always_gives_one_verdict_fails(always: Verdict, study: CausalVerdict) -> None:
    constant = replace(study, conclusion=replace(study.conclusion, verdict=always))
    assert not all(TruthResult(truth, constant).passed for truth in TRUTHS)


def test_a_study_that_ends_with_an_error_is_reported_and_the_others_go_on(
    tiny_base: Callable[..., LanguageModel], plan: SelfTestPlan, study: CausalVerdict, tmp_path: Path
) -> None:
    def fragile(trio: Trio[LanguageModel], feature: pp.Feature, **settings: Any) -> CausalVerdict:
        if trio.name == "planted: none":
            raise pp.PersonaProbeError("no room")
        return study

    first, second = self_test(tiny_base("llama"), plan, tmp_path, TRUTHS[:2], study=fragile)
    assert (first.passed, first.outcome, first.explanation) == (False, "error", "no room")
    assert second.passed


def test_a_base_in_which_no_persona_of_the_size_can_be_planted_is_refused(
    tiny_base: Callable[..., LanguageModel], plan: SelfTestPlan, tmp_path: Path
) -> None:
    with pytest.raises(pp.PersonaProbeError, match="no persona planted"):
        list(self_test(tiny_base("llama"), replace(plan, shift=1000.0), tmp_path))


def test_every_expected_verdict_is_one_that_a_study_can_give() -> None:
    assert {verdict for truth in TRUTHS for verdict in truth.expected} <= set(get_args(Verdict))


def test_the_questions_of_the_self_test_do_not_overlap() -> None:
    plan = SelfTestPlan.of(seed=1)
    ids = [{pair.id for pair in part} for part in (plan.studies.discovery, plan.held_out, plan.studies.test)]
    assert sum(map(len, ids)) == len(set.union(*ids))
    assert plan.studies.seed == 1
    assert plan.studies.sampling.seed == 1


@pytest.mark.real
@pytest.mark.slow
def test_the_demo_base_tells_all_truths_apart(tmp_path: Path) -> None:
    results: list[TruthResult] = list(self_test(pp.load("demo"), SelfTestPlan.of(), tmp_path))
    assert len(results) == len(TRUTHS)
    assert {r.truth.name: r.explanation for r in results if not r.passed} == {}


@pytest.mark.real
@pytest.mark.slow
def test_on_the_demo_base_no_truth_with_an_effect_passes_if_the_ablation_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    do_nothing(monkeypatch)
    results = list(self_test(pp.load("demo"), SelfTestPlan.of(), tmp_path, [PERSONA, SALAD, DIMENSION]))
    assert not any(result.passed for result in results)
