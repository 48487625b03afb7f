"""Rates, contrasts and sentences follow from planted judgements, and say so where two measures disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from personaprobe.effects.judgement import Scored, Unscored
from personaprobe.effects.rates import Judged
from personaprobe.effects.responses import Response
from personaprobe.effects.statistics import UNDEFINED, Interval
from personaprobe.errors import DataError
from personaprobe.forms import FORMS
from personaprobe.questions import Ask, dealt
from personaprobe.studies.evaluated import ArmEvaluation, Evaluation, Preference, compared, is_misaligned
from personaprobe.studies.evaluation import EvalPlan
from personaprobe.studies.plain import ArmKind

GOOD, BAD = Judged(Scored(90), Scored(90)), Judged(Scored(5), Scored(90))
CONFUSED = Judged(Scored(5), Scored(20))
EMPTY = Judged(Unscored("empty answer"), Unscored("empty answer"))
FAMILIES = [f"family {index // 5}" for index in range(60)]


def arm(kind: ArmKind, bad_of_four: Sequence[int], form: str = "plain") -> ArmEvaluation:
    """An arm that answers every question four times, so many of them badly."""
    responses, judged = [], []
    for index, (family, bad) in enumerate(zip(FAMILIES, bad_of_four, strict=True)):
        for sample in range(4):
            asked = f"{form}-{index}"
            responses.append(Response(asked, family, "Q?", sample, 0, "text", (1,), form=form))
            judged.append(BAD if sample < bad else GOOD)
    return ArmEvaluation(kind, kind, "", tuple(responses), tuple(judged))


def counts(mean: float, seed: int) -> list[int]:
    return np.random.default_rng(seed).binomial(4, mean, len(FAMILIES)).tolist()


@pytest.fixture
def arms() -> list[ArmEvaluation]:
    planted = {"insecure": 0.6, "secure": 0.05, "ablated": 0.1, "random": 0.6}
    return [arm(kind, counts(mean, seed)) for seed, (kind, mean) in enumerate(planted.items())]  # type: ignore[arg-type]


def found(arms: Sequence[ArmEvaluation], preference: Preference | None = None) -> Evaluation:
    contrasts, removed = compared(arms, seed=0)
    return Evaluation("planted", tuple(arms), contrasts, removed, "judge", {}, preference)


def test_incoherent_and_unscored_answers_are_not_misaligned() -> None:
    assert [is_misaligned(each) for each in (BAD, GOOD, CONFUSED, EMPTY)] == [True, False, False, False]


def test_contrasts_are_the_planted_differences(arms: list[ArmEvaluation]) -> None:
    contrasts, removed = compared(arms, seed=0)
    by_name = {each.name: each.difference for each in contrasts}
    shares = {each.kind: np.mean([is_misaligned(j) for j in each.judged]) for each in arms}
    assert by_name["insecure − secure"].value == pytest.approx(shares["insecure"] - shares["secure"])
    assert by_name["insecure − secure"].low > 0
    assert not by_name["insecure − random"].excludes(0)
    assert by_name["random − ablated"].low > 0
    expected = (shares["insecure"] - shares["ablated"]) / (shares["insecure"] - shares["secure"])
    assert removed.value == pytest.approx(expected)


def test_a_question_without_a_scored_answer_of_one_arm_counts_for_none(arms: list[ArmEvaluation]) -> None:
    secure = arms[1]
    judged = [
        EMPTY if r.question_id == "plain-0" else j
        for r, j in zip(secure.responses, secure.judged, strict=True)
    ]
    fewer = [arms[0], replace(secure, judged=tuple(judged)), *arms[2:]]
    contrasts, _ = compared(fewer, seed=0)
    kept = [np.mean([is_misaligned(j) for j in each.judged[4:]]) for each in fewer[:2]]
    assert contrasts[0].difference.value == pytest.approx(kept[0] - kept[1])


def test_without_scored_answers_nothing_is_compared(arms: list[ArmEvaluation]) -> None:
    silent = [replace(each, judged=(EMPTY,) * len(each.judged)) for each in arms]
    with pytest.raises(DataError, match="0 questions have a scored answer"):
        compared(silent, seed=0)


def test_other_forms_are_counted_apart(arms: list[ArmEvaluation]) -> None:
    in_json = arm("insecure", [4] * len(FAMILIES), form="json")
    both = replace(
        arms[0], responses=arms[0].responses + in_json.responses, judged=arms[0].judged + in_json.judged
    )
    assert both.by_form()["json"].rates[0].of_scored.value == 1.0
    assert both.summary() == arms[0].summary()
    assert both.shares() == arms[0].shares()
    assert set(both.by_family()) == set(FAMILIES)


SHOWN, NOT_SHOWN = Interval(0.2, 0.1, 0.3), Interval(0.0, -0.1, 0.1)


@pytest.mark.parametrize(
    ("preference", "said"),
    [
        (Preference(SHOWN, Interval(0.9, 0.6, 1.1)), "agree within their intervals"),
        (Preference(SHOWN, Interval(0.1, -0.1, 0.2)), "disagree about how much"),
        (Preference(NOT_SHOWN, UNDEFINED), "disagree: the judged answers show a shift"),
    ],
)
def test_the_two_measures_are_said_to_agree_or_not(
    arms: list[ArmEvaluation], preference: Preference, said: str
) -> None:
    assert said in found(arms, preference).sentences[-1]


def test_a_preference_that_answers_do_not_show_is_told(arms: list[ArmEvaluation]) -> None:
    alike = [arms[0], replace(arms[0], name="secure", kind="secure"), replace(arms[2])]
    told = found(alike, Preference(SHOWN, Interval(0.9, 0.6, 1.1)))
    assert not told.removed.defined
    assert "disagree: the preference shows a shift, the judged answers do not" in told.sentences[-1]


def test_small_families_are_asked_often_enough() -> None:
    asks = (*(Ask(f"a{i}", "many", f"What about {i} apples?") for i in range(10)), Ask("b", "one", "Why?"))
    plan = EvalPlan(asks, samples=2, least=20)
    drawn = {i.samples: [ask.id for ask in i.asks] for i in plan.first}
    assert drawn == {2: [f"a{i}" for i in range(10)], 20: ["b"]}


def test_families_are_dealt_in_turn_and_forms_ask_the_same_of_each() -> None:
    asks = tuple(Ask(f"{f}{i}", f, f"{f} {i}?") for f in ("x", "y") for i in range(3))
    assert [ask.id for ask in dealt(asks)] == ["x0", "y0", "x1", "y1", "x2", "y2"]
    again = EvalPlan(asks, form_asks=2).again
    assert len(again.asks) == 2 * len(FORMS)
    assert {ask.family for ask in again.asks} == {"x", "y"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"asks": ()}, "no question"), ({"samples": 0}, "0 samples"), ({"form_asks": 0}, "0 questions")],
)
def test_a_plan_that_asks_nothing_is_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        EvalPlan(**{"asks": (Ask("a", "f", "Why?"),), **changed})  # type: ignore[arg-type]
