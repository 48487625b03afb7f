"""From 0/1 answers to a verdict, on planted evaluations: nothing is found where nothing was planted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from personaprobe.effects.verdict import Damage, Evidence, Thresholds, Verdict, decide
from personaprobe.statistics.families import family_summary
from personaprobe.statistics.fractions import random_fraction
from personaprobe.statistics.hypothesis_tests import rank_test
from personaprobe.statistics.intervals import Resamples
from personaprobe.statistics.proportions import share_difference
from personaprobe.studies.arms.kinds import ArmKind
from personaprobe.studies.evaluation.contrasts import (
    RELEVANT_DIFFERENCE,
    ContrastResults,
    Misaligned,
    contrast_kinds,
)

N_FAMILIES, QUESTIONS, SAMPLES = 12, 10, 2
FAMILIES = [f"family {f:02d}" for f in range(N_FAMILIES) for _ in range(QUESTIONS)]
PLAN = Resamples.of_families(FAMILIES, n=400)
FOUND = ("suppresses", "partly suppresses")

Planted = dict[ArmKind, list[Misaligned]]


@pytest.fixture(autouse=True)
def one_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """All planted evaluations share their resamples, which saves drawing them anew."""
    monkeypatch.setattr(
        "personaprobe.studies.evaluation.contrasts.Resamples.of_families", lambda *_, **__: PLAN
    )


def rates(rng: np.random.Generator, mean: float, icc: float = 0.15) -> np.ndarray:
    """How often each family's answers are misaligned, beta distributed."""
    size = (1 - icc) / icc
    return rng.beta(mean * size, (1 - mean) * size, size=N_FAMILIES)


def answers(rng: np.random.Generator, by_family: np.ndarray) -> Misaligned:
    """Every question answered several times at its family's rate."""
    often = np.repeat(np.clip(by_family, 0, 1), QUESTIONS)[:, None]
    return (rng.random((len(FAMILIES), SAMPLES)) < often).astype(float)


def planted(
    rng: np.random.Generator, means: tuple[float, float], removed: float, controls: Sequence[float]
) -> Planted:
    """Insecure and secure at their mean rates, and directions that take shares of the difference away."""
    insecure, secure = rates(rng, means[0]), rates(rng, means[1])

    def without(share: float) -> Misaligned:
        return answers(rng, insecure - share * (insecure - secure))

    return {
        "insecure": [answers(rng, insecure)],
        "secure": [answers(rng, secure)],
        "ablated": [without(removed)],
        "random": [without(share) for share in controls],
    }


def verdict(arms: Planted, results: ContrastResults) -> Verdict:
    """What the rules say, read with shares of misaligned answers for nats per token."""
    insecure, secure, *_ = (
        [misaligned.mean(axis=1) for misaligned in arm_answers] for arm_answers in arms.values()
    )
    randoms = [misaligned.mean(axis=1) for misaligned in arms["random"]]
    evidence = Evidence(
        shift=results.shift,
        fraction_removed=results.removed,
        random_fraction_removed=random_fraction(insecure[0], secure[0], randoms, PLAN),
        over_random=results.beyond_random,
        damage=Damage.exact(1.0, 0.01, 1.0, chat_kl=0.01),
        detectable_shift=results.power.detectable,
        questions_needed=results.power.answers_needed,
        n_questions=len(FAMILIES),
        n_families=N_FAMILIES,
        n_controls=len(randoms),
        rank=rank_test(0.0, [0.0]),
        clustering=family_summary(insecure[0] - secure[0], FAMILIES),
    )
    few = Thresholds(smallest_shift=RELEVANT_DIFFERENCE, least_controls=len(randoms), max_rank_p=1.0)
    return decide(evidence, few).verdict


def verdicts(
    means: tuple[float, float], removed: float | None, n_controls: int, spread: float, studies: int
) -> list[Verdict]:
    """Verdicts of planted evaluations; if ``removed`` is None, the feature is one more random direction."""
    rng = np.random.default_rng((n_controls, studies))
    outcomes = []
    for _ in range(studies):
        feature, *controls = 0.05 + spread * rng.normal(size=1 + n_controls)
        arms = planted(rng, means, feature if removed is None else removed, controls)
        outcomes.append(verdict(arms, contrast_kinds(FAMILIES, arms, 0)))
    return outcomes


def share_of(found: Sequence[Verdict], *wanted: str) -> float:
    return float(np.mean([each in wanted for each in found]))


# Nothing planted

NULLS = [
    pytest.param((0.4, 0.05), None, 0.1, id="a real shift, one more random direction"),
    pytest.param((0.4, 0.05), 0.0, 0.0, id="a real shift, nothing does anything"),
    pytest.param((0.12, 0.02), None, 0.2, id="a rare shift, one more random direction"),
    pytest.param((0.05, 0.05), None, 0.1, id="no shift"),
]


@pytest.mark.parametrize("controls", [2, 5])
@pytest.mark.parametrize(("means", "removed", "spread"), NULLS)
def test_a_null_is_called_suppressing_at_most_five_percent_of_the_time(
    means: tuple[float, float], removed: float | None, spread: float, controls: int
) -> None:
    assert share_of(verdicts(means, removed, controls, spread, 200), *FOUND) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("controls", [2, 3, 5])
@pytest.mark.parametrize(("means", "removed", "spread"), NULLS)
def test_a_null_is_called_suppressing_at_most_five_percent_of_many_times(
    means: tuple[float, float], removed: float | None, spread: float, controls: int
) -> None:
    assert share_of(verdicts(means, removed, controls, spread, 3000), *FOUND) <= 0.05


def test_a_planted_feature_is_called_suppressing() -> None:
    assert share_of(verdicts((0.5, 0.05), 0.9, 5, 0.05, 60), "suppresses") >= 0.8


def test_without_a_shift_the_table_seldom_finds_one() -> None:
    outcomes = verdicts((0.05, 0.05), 0.0, 2, 0.0, 100)
    assert share_of(outcomes, "no effect to remove", "underpowered") >= 0.95


# Several contrasts


def contrasts(rng: np.random.Generator, effect: float) -> dict[str, tuple[float, float]]:
    """p and q of an evaluation in which only insecure differs from secure and base, by `effect`."""
    secure, insecure = 0.15, 0.15 + effect
    means: dict[ArmKind, float] = {"insecure": insecure, "secure": secure, "base": secure}
    means |= {"ablated": insecure, "random": insecure, "steered": secure}
    misaligned: Planted = {kind: [answers(rng, rates(rng, mean))] for kind, mean in means.items()}
    return {each.name: (each.p, each.q) for each in contrast_kinds(FAMILIES, misaligned, 0).contrasts}


NULL = {"insecure − ablated", "insecure − random", "random − ablated", "steered − base"}


@pytest.mark.parametrize(
    "effect", [0.0, pytest.param(0.2, marks=pytest.mark.slow), pytest.param(0.4, marks=pytest.mark.slow)]
)
def test_among_contrasts_that_share_arms_few_discoveries_are_false(effect: float) -> None:
    rng = np.random.default_rng(6)
    shares, single = [], []
    for _ in range(250):
        tests = contrasts(rng, effect)
        called = {name for name, (_, q) in tests.items() if q <= 0.05}
        false = called & NULL if effect else called
        shares.append(len(false) / max(1, len(called)))
        single.append(any(tests[name][0] <= 0.05 for name in NULL))
    assert np.mean(shares) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 250)
    assert np.mean(single) > 0.08  # p alone would find something in every tenth evaluation


# Laws


@pytest.fixture
def arms() -> Planted:
    return planted(np.random.default_rng(7), (0.5, 0.05), 0.8, [0.0, 0.1, 0.05])


def test_several_random_directions_count_as_their_mean(arms: Planted) -> None:
    results = contrast_kinds(FAMILIES, arms, 0)
    by_name = {each.name: each for each in results.contrasts}
    mean = np.mean([misaligned.mean() for misaligned in arms["random"]])
    assert by_name["random − ablated"].difference.value == pytest.approx(mean - arms["ablated"][0].mean())
    assert np.isnan(by_name["random − ablated"].mcnemar)
    assert not np.isnan(by_name["insecure − ablated"].mcnemar)


def test_beyond_random_is_what_is_removed_less_what_random_directions_remove(arms: Planted) -> None:
    results = contrast_kinds(FAMILIES, arms, 0)
    insecure, secure = (arms[kind][0].mean(axis=1) for kind in ("insecure", "secure"))
    random = random_fraction(
        insecure, secure, [misaligned.mean(axis=1) for misaligned in arms["random"]], PLAN
    )
    assert results.beyond_random.value == pytest.approx(results.removed.value - random.value)
    assert results.beyond_random.low > 0


def test_one_random_direction_or_none_says_nothing_of_beyond_random(arms: Planted) -> None:
    for random_arms in (arms["random"][:1], []):
        rest = {kind: own for kind, own in arms.items() if kind != "random"}
        results = contrast_kinds(FAMILIES, rest | ({"random": random_arms} if random_arms else {}), 0)
        assert results.removed.defined
        assert not results.beyond_random.defined


def test_nothing_is_removed_of_a_shift_that_is_not_shown() -> None:
    rng = np.random.default_rng(8)
    arms = planted(rng, (0.05, 0.05), 0.5, [0.0, 0.1])
    results = contrast_kinds(FAMILIES, arms, 0)
    assert not results.shift.excludes(0)
    assert not results.removed.defined
    assert not results.beyond_random.defined


def test_answers_without_a_score_are_left_out_of_every_count(arms: Planted) -> None:
    holed = {kind: [misaligned.copy() for misaligned in own] for kind, own in arms.items()}
    holed["secure"][0][::3, 1] = np.nan
    results = contrast_kinds(FAMILIES, holed, 0)
    assert results.power.n == 240 - 40
    expected = arms["insecure"][0].mean() - np.nanmean(holed["secure"][0], axis=1).mean()
    assert results.shift.value == pytest.approx(expected)


def test_the_shift_is_the_interval_for_shares(arms: Planted) -> None:
    results = contrast_kinds(FAMILIES, arms, 0)
    a, b = (arms[kind][0].mean(axis=1) for kind in ("insecure", "secure"))
    assert results.shift == share_difference(a, b, PLAN, results.power.clustered, 240)


@pytest.mark.parametrize("mean", [0.02, 0.5, 0.97])
def test_power_is_defined_at_any_rate_of_secure(mean: float) -> None:
    rng = np.random.default_rng(9)
    misaligned: Planted = {kind: [answers(rng, np.full(12, mean))] for kind in ("insecure", "secure")}
    power = contrast_kinds(FAMILIES, misaligned, 0).power
    assert 0 < power.detectable < 0.5
    assert (power.answers_needed <= power.n) == (power.detectable <= RELEVANT_DIFFERENCE)
