"""Rates, contrasts and sentences follow from planted judgements, and say so where two measures disagree."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from personaprobe.cli.terminal.rate_tables import sets_table
from personaprobe.effects.judges.judgement import Scored, Unscored
from personaprobe.effects.judges.rates import Judged, is_misaligned
from personaprobe.effects.measures.responses import Response
from personaprobe.errors import DataError
from personaprobe.questions.formats import FORMS
from personaprobe.questions.prompt import Prompt, interleaved
from personaprobe.statistics.intervals import UNDEFINED, Interval
from personaprobe.statistics.proportions import Clustering, detectable_rise
from personaprobe.studies.arms.kinds import ArmKind
from personaprobe.studies.evaluation.plan import EvaluationPlan
from personaprobe.studies.evaluation.preference_result import Preference
from personaprobe.studies.evaluation.result import (
    ArmEvaluation,
    Evaluation,
    contrast_arms,
)
from personaprobe.studies.reports.evaluation import render_evaluation

GOOD, BAD = Judged(Scored(90), Scored(90)), Judged(Scored(5), Scored(90))
CONFUSED = Judged(Scored(5), Scored(20))
EMPTY = Judged(Unscored("empty answer"), Unscored("empty answer"))
FAMILIES = [f"family {index // 5}" for index in range(60)]


def arm(kind: ArmKind, bad_of_four: Sequence[int], form: str = "plain") -> ArmEvaluation:
    """An arm that answers every question four times, so many of them badly."""
    responses, judged = [], []
    for index, (family, bad) in enumerate(zip(FAMILIES, bad_of_four, strict=True)):
        for sample in range(4):
            question_id = f"{form}-{index}"
            responses.append(Response(question_id, family, "Q?", sample, 0, "text", (1,), form=form))
            judged.append(BAD if sample < bad else GOOD)
    return ArmEvaluation(kind, kind, "", tuple(responses), tuple(judged))


def counts(mean: float, seed: int) -> list[int]:
    return np.random.default_rng(seed).binomial(4, mean, len(FAMILIES)).tolist()


@pytest.fixture
def arms() -> list[ArmEvaluation]:
    planted = {"insecure": 0.6, "secure": 0.05, "ablated": 0.1, "random": 0.6}
    return [arm(kind, counts(mean, seed)) for seed, (kind, mean) in enumerate(planted.items())]  # type: ignore[arg-type]


def evaluation_of(arms: Sequence[ArmEvaluation], preference: Preference | None = None) -> Evaluation:
    return Evaluation("planted", tuple(arms), contrast_arms(arms, seed=0), "judge", {}, preference)


def test_incoherent_and_unscored_answers_are_not_misaligned() -> None:
    assert [is_misaligned(each) for each in (BAD, GOOD, CONFUSED, EMPTY)] == [True, False, False, False]


def test_contrasts_are_the_planted_differences(arms: list[ArmEvaluation]) -> None:
    results = contrast_arms(arms, seed=0)
    by_name = {each.name: each.difference for each in results.contrasts}
    shares = {each.kind: np.mean([is_misaligned(j) for j in each.judged]) for each in arms}
    assert by_name["insecure − secure"].value == pytest.approx(shares["insecure"] - shares["secure"])
    assert by_name["insecure − secure"].low > 0
    assert not by_name["insecure − random"].excludes(0)
    assert by_name["random − ablated"].low > 0
    expected = (shares["insecure"] - shares["ablated"]) / (shares["insecure"] - shares["secure"])
    assert results.removed.value == pytest.approx(expected)


def test_a_question_without_a_scored_answer_of_one_arm_counts_for_none(arms: list[ArmEvaluation]) -> None:
    secure = arms[1]
    judged = [
        EMPTY if r.question_id == "plain-0" else j
        for r, j in zip(secure.responses, secure.judged, strict=True)
    ]
    fewer = [arms[0], replace(secure, judged=tuple(judged)), *arms[2:]]
    contrasts = contrast_arms(fewer, seed=0).contrasts
    bad = [np.array([is_misaligned(j) for j in each.judged]) for each in fewer[:2]]
    families = [(bad[0] * 1.0 - bad[1])[start : start + 20] for start in range(0, 240, 20)]
    families[0] = families[0][4:]
    assert contrasts[0].difference.value == pytest.approx(np.mean([family.mean() for family in families]))


def test_benign_questions_are_kept_apart_and_contrasts_are_given_net_of_them(
    arms: list[ArmEvaluation],
) -> None:
    errors = [
        arm(each.kind, counts(rate, 9), "benign")
        for each, rate in zip(arms, (0.2, 0.1, 0.1, 0.2), strict=True)
    ]
    both = [
        replace(each, responses=each.responses + error.responses, judged=each.judged + error.judged)
        for each, error in zip(arms, errors, strict=True)
    ]
    plain, benign = contrast_arms(both, seed=0), contrast_arms(both, seed=0, form="benign")
    assert plain == contrast_arms(arms, seed=0)
    evaluation = Evaluation("planted", tuple(both), plain, "judge", {}, benign=benign)
    net = evaluation.net_contrasts["insecure − secure"]
    assert net.value == pytest.approx(plain.shift.value - benign.shift.value)
    assert net.high - net.low > plain.shift.high - plain.shift.low
    assert any("On benign questions" in line for line in evaluation.sentences)
    assert "benign" not in both[0].by_form()


def test_sets_are_compared_apart(arms: list[ArmEvaluation]) -> None:
    ids = {
        "first": frozenset(f"plain-{i}" for i in range(30)),
        "second": frozenset(f"plain-{i}" for i in range(30, 60)),
    }
    by_set = {name: contrast_arms(arms, seed=0, among=of) for name, of in ids.items()}
    evaluation = replace(evaluation_of(arms), by_set=by_set)
    values = [results.shift.value for results in by_set.values()]
    assert np.mean(values) == pytest.approx(evaluation.shift.value)
    assert [line for line in evaluation.sentences if "On first alone" in line]


def test_every_contrast_is_the_difference_of_the_shares_in_its_own_column(arms: list[ArmEvaluation]) -> None:
    ids = {"first": frozenset(f"plain-{i}" for i in range(20)), "rest": frozenset({"plain-40", "plain-50"})}
    errors = [replace(arm(each.kind, counts(0.1, 9), "benign")) for each in arms]
    both = [
        replace(each, responses=each.responses + error.responses, judged=each.judged + error.judged)
        for each, error in zip(arms, errors, strict=True)
    ]
    evaluation = replace(
        evaluation_of(both),
        by_set={name: contrast_arms(both, seed=0, among=of) for name, of in ids.items()},
        benign=contrast_arms(both, seed=0, form="benign"),
    )
    columns = evaluation.results_by_set
    assert list(columns) == ["all questions", "first", "rest", "benign"]
    for results in columns.values():
        assert {contrast.name for contrast in results.contrasts} >= {
            "insecure − secure",
            "insecure − ablated",
        }
        for contrast in results.contrasts:
            a, b = contrast.name.split(" − ")
            difference = results.shares[a] - results.shares[b]  # type: ignore[index]
            assert contrast.difference.value == pytest.approx(difference)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(sets_table(evaluation))
    table = console.export_text()
    for results in columns.values():
        assert f"{100 * results.shares['insecure']:.1f}" in table
    page = render_evaluation(evaluation.to_dict(), [])
    assert "Every family of questions weighed equally" in page
    assert page.count('<th scope="row">insecure − ablated</th>') == 2


def test_the_clustering_of_the_contrast_is_printed(arms: list[ArmEvaluation]) -> None:
    evaluation = evaluation_of(arms)
    clustering = evaluation.results.clustering
    assert clustering is not None
    assert clustering.n_families == 12
    wrong = np.mean([_bad(arms[0], i) < _bad(arms[1], i) for i in range(len(FAMILIES))])
    assert clustering.wrong_way == pytest.approx(wrong)
    line = f"Every family weighs the same: {clustering}; {100 * wrong:.0f} % of the questions moved the wrong way."
    assert line in evaluation.sentences


def _bad(of: ArmEvaluation, question: int) -> int:
    return sum(is_misaligned(judged) for judged in of.judged[4 * question : 4 * question + 4])


def test_without_scored_answers_nothing_is_compared(arms: list[ArmEvaluation]) -> None:
    silent = [replace(each, judged=(EMPTY,) * len(each.judged)) for each in arms]
    evaluation = evaluation_of(silent)
    assert not evaluation.shift.defined
    assert evaluation.to_dict()["contrasts"] == {}
    assert evaluation.sentences == (
        "Arms cannot be compared: questions to which every one has a scored answer are of fewer than two families.",
    )


def test_other_forms_are_counted_apart(arms: list[ArmEvaluation]) -> None:
    in_json = arm("insecure", [4] * len(FAMILIES), form="json")
    both = replace(
        arms[0], responses=arms[0].responses + in_json.responses, judged=arms[0].judged + in_json.judged
    )
    assert both.by_form()["json"].rates[0].of_scored.value == 1.0
    assert both.summary() == arms[0].summary()
    assert both.misaligned() == arms[0].misaligned()
    assert set(both.by_family()) == set(FAMILIES)


def test_a_sample_without_a_score_is_left_out_and_its_question_kept(arms: list[ArmEvaluation]) -> None:
    judged = list(arms[1].judged)
    judged[0] = EMPTY
    marks = replace(arms[1], judged=tuple(judged)).misaligned()
    assert set(marks["plain-0"]) == {1, 2, 3}
    fewer = contrast_arms([arms[0], replace(arms[1], judged=tuple(judged))], seed=0)
    assert fewer.power.n == 4 * len(FAMILIES) - 1


def sentences_of(arms: Sequence[ArmEvaluation]) -> str:
    return " ".join(evaluation_of(arms).sentences)


def test_random_directions_are_compared_if_there_are_two_and_requested_if_there_are_fewer(
    arms: list[ArmEvaluation],
) -> None:
    assert not evaluation_of(arms).beyond_random.defined
    assert "is shown by 2 or more of them; there were 1" in sentences_of(arms)
    two = [*arms, replace(arm("random", counts(0.6, 9)), name="random 2")]
    assert evaluation_of(two).beyond_random.defined
    assert "is shown by" not in sentences_of(two)
    assert "eyond" in sentences_of(two)
    assert "random" not in sentences_of([each for each in arms if each.kind in ("insecure", "secure")])


def test_the_detectable_difference_and_the_answers_needed_for_a_smaller_one_are_printed(
    arms: list[ArmEvaluation],
) -> None:
    evaluation = evaluation_of(arms)
    assert f"{100 * evaluation.results.power.detectable:.1f} percentage points from secure's" in sentences_of(
        arms
    )
    assert f"takes {evaluation.results.power.answers_needed} answers per arm" in sentences_of(arms)
    power = evaluation.to_dict()["power"]
    assert power["answers_an_arm"] == 240
    assert power["families"] == 12
    assert power["detectable"] == evaluation.results.power.detectable


def test_a_result_of_few_families_is_printed_as_inconclusive(arms: list[ArmEvaluation]) -> None:
    small = [replace(each, responses=each.responses[:100], judged=each.judged[:100]) for each in arms]
    assert "of 5 families, show no difference at the 5 % level: that takes 6 families" in sentences_of(small)
    assert evaluation_of(small).to_dict()["power"]["detectable"] is None


def test_evaluations_are_data_with_every_test(arms: list[ArmEvaluation]) -> None:
    data = json.loads(json.dumps(evaluation_of(arms).to_dict(), allow_nan=False))
    planted = data["contrasts"]["insecure − secure"]
    assert set(planted) == {"value", "low", "high", "p", "q", "fisher", "mcnemar"}
    assert planted["p"] == 2 / 2**12
    assert planted["p"] <= planted["q"] <= 0.01
    assert data["contrasts"]["insecure − random"]["p"] > 0.05
    assert data["beyond_random"]["value"] is None


SHOWN, NOT_SHOWN = Interval(0.2, 0.1, 0.3), Interval(0.0, -0.1, 0.1)


@pytest.mark.parametrize(
    ("preference", "message"),
    [
        (Preference(SHOWN, Interval(0.9, 0.6, 1.1)), "agree within their intervals"),
        (Preference(SHOWN, Interval(0.1, -0.1, 0.2)), "disagree about how much"),
        (Preference(NOT_SHOWN, UNDEFINED), "disagree: the judged answers show a shift"),
    ],
)
def test_agreement_of_the_two_measures_is_printed(
    arms: list[ArmEvaluation], preference: Preference, message: str
) -> None:
    assert message in evaluation_of(arms, preference).sentences[-1]


def test_a_preference_shift_that_answers_do_not_show_is_printed(arms: list[ArmEvaluation]) -> None:
    alike = [arms[0], replace(arms[0], name="secure", kind="secure"), replace(arms[2])]
    evaluation = evaluation_of(alike, Preference(SHOWN, Interval(0.9, 0.6, 1.1)))
    assert not evaluation.removed.defined
    assert "disagree: the preference shows a shift, the judged answers do not" in evaluation.sentences[-1]


def test_small_families_are_sampled_often_enough() -> None:
    prompts = (
        *(Prompt(f"a{i}", "many", f"What about {i} apples?") for i in range(10)),
        Prompt("b", "one", "Why?"),
    )
    plan = EvaluationPlan(prompts, samples=2, min_per_family=20)
    drawn = {i.samples: [prompt.id for prompt in i.prompts] for i in plan.plain_batches}
    assert drawn == {2: [f"a{i}" for i in range(10)], 20: ["b"]}


def test_a_plan_states_its_power_before_answers_are_sampled() -> None:
    prompts = tuple(Prompt(f"{f}-{i}", f"family {f}", f"{f} {i}?") for f in range(12) for i in range(10))
    plan = EvaluationPlan((*prompts, Prompt("j", "family 0", "Why?", "Answer in JSON.", "json")), samples=2)
    assert plan.answers_by_family == {f"family {f}": 20 for f in range(12)}
    rise = 100 * detectable_rise(0.05, 240, Clustering.assumed([20] * 12))
    assert plan.expected_power.startswith("240 answers per arm to plain questions of 12 families")
    assert (
        f"a difference of {rise:.0f} percentage points with 80 % power, if 5 % of secure's"
        in plan.expected_power
    )
    assert "correlate by 0.1 within a family" in plan.expected_power
    assert "show no difference" in EvaluationPlan(prompts[:50], samples=2).expected_power
    with pytest.raises(DataError, match="20 answers of 1 families"):
        _ = EvaluationPlan(prompts[:10], samples=2).expected_power


def test_questions_that_all_have_a_system_message_are_refused_with_that_reason() -> None:
    prompts = tuple(Prompt(f"q{f}", f"family {f}", f"{f}?", "Be brief.", "system") for f in range(12))
    with pytest.raises(DataError, match=r"give plain questions .*system message.* is not plain"):
        _ = EvaluationPlan(prompts).expected_power


def test_families_are_interleaved_and_every_form_covers_each() -> None:
    prompts = tuple(Prompt(f"{f}{i}", f, f"{f} {i}?") for f in ("x", "y") for i in range(3))
    assert [prompt.id for prompt in interleaved(prompts)] == ["x0", "y0", "x1", "y1", "x2", "y2"]
    again = EvaluationPlan(prompts, n_form_prompts=2).form_batch
    assert len(again.prompts) == 2 * len(FORMS)
    assert {prompt.family for prompt in again.prompts} == {"x", "y"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"prompts": ()}, "no question"), ({"samples": 0}, "0 samples"), ({"n_form_prompts": 0}, "0 questions")],
)
def test_a_plan_without_questions_or_samples_is_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        EvaluationPlan(**{"prompts": (Prompt("a", "f", "Why?"),), **changed})  # type: ignore[arg-type]
