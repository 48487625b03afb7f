"""Every verdict is reachable, the first rule that applies wins, and the words are the code."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaprobe.effects.verdict import Damage, Evidence, Thresholds, Verdict, decide, rules
from personaprobe.effects.verdict.thresholds import ADDED
from personaprobe.statistics.families import FamilySummary
from personaprobe.statistics.hypothesis_tests import RankTest
from personaprobe.statistics.intervals import UNDEFINED, Interval

CLEAR = Evidence(
    shift=Interval(0.46, 0.31, 0.60),
    fraction_removed=Interval(0.71, 0.55, 0.83),
    random_fraction_removed=Interval(0.03, -0.02, 0.08),
    over_random=Interval(0.68, 0.50, 0.82),
    damage=Damage(
        perplexity_ratio=Interval(1.02, 1.01, 1.03),
        kl=Interval(0.03, 0.02, 0.04),
        chat_kl=Interval(0.05, 0.04, 0.06),
        coherence=Interval(0.97, 0.93, 1.01),
    ),
    detectable_shift=0.08,
    questions_needed=80,
    n_questions=120,
    n_families=12,
    n_controls=39,
    rank=RankTest(39, 39, 0.05),
    clustering=FamilySummary(120, 12, 12.0, 0.06, 1.5, 0.1),
)
NO_SHIFT = replace(
    CLEAR,
    shift=Interval(0.02, -0.05, 0.09),
    fraction_removed=UNDEFINED,
    random_fraction_removed=UNDEFINED,
    over_random=UNDEFINED,
)
BLIND = replace(NO_SHIFT, detectable_shift=0.30, questions_needed=1080)
REVERSED = replace(CLEAR, shift=Interval(-0.4, -0.6, -0.2), detectable_shift=0.3)
INCOHERENT = replace(CLEAR, damage=Damage.exact(1.02, 0.03, 0.67))
WIDE = replace(CLEAR, fraction_removed=Interval(0.4, -0.1, 0.9), over_random=Interval(0.37, -0.2, 0.9))
FEW_CONTROLS = replace(CLEAR, over_random=Interval(0.68, -0.4, 1.8))
LIKE_RANDOM = replace(
    CLEAR, fraction_removed=Interval(0.1, 0.02, 0.2), over_random=Interval(0.07, -0.03, 0.17)
)
WORSE_THAN_RANDOM = replace(
    CLEAR, fraction_removed=Interval(-0.88, -1.2, -0.6), over_random=Interval(-0.9, -1.2, -0.6)
)
PARTLY = replace(CLEAR, fraction_removed=Interval(0.4, 0.2, 0.55), over_random=Interval(0.37, 0.15, 0.52))
UNSURE = replace(CLEAR, fraction_removed=Interval(0.65, 0.25, 0.9), over_random=Interval(0.62, 0.2, 0.88))
RANDOM_ADDS = replace(CLEAR, fraction_removed=Interval(0.02, -0.05, 0.1), over_random=Interval(0.3, 0.1, 0.5))
ASLEEP = replace(CLEAR, n_controls=38)
UNPRICED = replace(CLEAR, damage=Damage.exact(1.02, 0.03, math.nan, chat_kl=0.05))
PARTLY_UNPRICED = replace(PARTLY, damage=replace(CLEAR.damage, chat_kl=Interval(0.08, 0.05, 0.11)))
RANKED_LOW = replace(CLEAR, rank=RankTest(38, 39, 0.1))
SELECTED_LIKE = replace(CLEAR, candidates=100, over_selected=Interval(0.1, -0.1, 0.3))
LIKE_SECURE = replace(
    CLEAR, removed_in_secure=Interval(0.6, 0.4, 0.8), net_of_secure=Interval(0.1, -0.1, 0.3)
)
PAST = replace(CLEAR, fraction_removed=Interval(1.6, 1.3, 1.9))
SMALL = replace(CLEAR, fraction_removed=Interval(0.12, 0.08, 0.16), over_random=Interval(0.2, 0.15, 0.25))
VAGUE = replace(CLEAR, fraction_removed=Interval(0.3, 0.05, 0.5), over_random=Interval(0.3, 0.1, 0.5))
EXAMPLES: list[tuple[Evidence, Verdict]] = [
    (CLEAR, "suppresses"),
    (PARTLY, "partly suppresses"),
    (UNPRICED, "suppresses, damage not excluded"),
    (PARTLY_UNPRICED, "partly suppresses, damage not excluded"),
    (RANKED_LOW, "not specific"),
    (SELECTED_LIKE, "not specific"),
    (LIKE_SECURE, "not specific"),
    (PAST, "overshoots"),
    (SMALL, "removes too little"),
    (VAGUE, "underpowered"),
    (ASLEEP, "underpowered"),
    (UNSURE, "partly suppresses"),
    (LIKE_RANDOM, "not specific"),
    (WORSE_THAN_RANDOM, "not specific"),
    (RANDOM_ADDS, "removes too little"),
    (INCOHERENT, "damages the model"),
    (NO_SHIFT, "no effect to remove"),
    (REVERSED, "no effect to remove"),
    (BLIND, "underpowered"),
    (WIDE, "underpowered"),
    (FEW_CONTROLS, "underpowered"),
]


@pytest.mark.parametrize(("evidence", "verdict"), EXAMPLES)
def test_each_example_has_its_verdict(evidence: Evidence, verdict: Verdict) -> None:
    assert decide(evidence).verdict == verdict


def test_every_verdict_and_every_rule_is_reached_by_an_example() -> None:
    assert {verdict for _, verdict in EXAMPLES} == set(get_args(Verdict))
    assert {decide(evidence).rule for evidence, _ in EXAMPLES} == set(range(len(rules())))


def test_the_sentences_say_how_much_was_removed_beyond_which_controls_and_at_which_cost() -> None:
    assert decide(CLEAR).sentence == (
        "The feature was set to the secure model's mean in insecure. "
        "That removes 71 % (55 to 83) of the shift, and matched controls 3 % (-2 to 8). "
        "That is 68 % (50 to 82) more than one more control could. "
        "No style-balanced questions were answered: style may be what changed. "
        "Damage: perplexity × 1.02 (1.01 to 1.03), KL on prose 0.030 nats per token (0.020 to 0.040), KL on chat answers "
        "0.050 nats per token (0.040 to 0.060), coherence 97 % of the untreated model's (93 to 101). "
        "Removing it suffices to suppress: it is necessary for that shift; whether it is sufficient was not "
        "measured."
    )


def test_every_further_measurement_has_its_sentence() -> None:
    full = replace(
        CLEAR,
        candidates=100,
        over_selected=Interval(0.5, 0.4, 0.6),
        removed_in_secure=Interval(0.18, 0.1, 0.26),
        net_of_secure=Interval(0.53, 0.4, 0.66),
        narrow_left=Interval(0.74, 0.45, 1.1),
        reference="base",
    )
    conclusion = decide(full)
    assert conclusion.name == "suppresses (against base, style not excluded)"
    for words in (
        "set to the base model's mean",
        "more than the best of 100 more controls could",
        "50 % (40 to 60) more than the best control chosen the same way",
        "Net of the 18 % (10 to 26) that the same ablation removes in secure, 53 % (40 to 66) remain.",
        "on the narrow task, the ablation leaves 74 % (45 to 110).",
        "No benign control was subtracted",
    ):
        assert words in conclusion.sentence


BALANCED = replace(
    CLEAR,
    bag_of_words=0.92,
    balanced_bag_of_words=0.44,
    n_balanced=48,
    balanced_shift=Interval(0.1, 0.06, 0.14),
    balanced_removed=Interval(0.6, 0.3, 0.9),
    balanced_null=Interval(0.02, -0.1, 0.1),
)


@pytest.mark.parametrize(
    ("evidence", "sentences"),
    [
        (
            BALANCED,
            "On 48 style-balanced questions (a bag of words has AUC 0.44, 0.92 on test), the shift is 0.10 [0.06, 0.14] "
            "nats a token; the ablation removes 60 % (30 to 90) of it, matched controls 2 % (-10 to 10). Damage",
        ),
        (
            replace(BALANCED, balanced_removed=Interval(0.2, -0.1, 0.5)),
            "Removal is not shown there: the ablation may act on style.",
        ),
        (
            replace(BALANCED, balanced_shift=Interval(0.02, -0.01, 0.05)),
            "no shift is shown (0.02 [-0.01, 0.05] nats a token): it may be one of style. Damage",
        ),
    ],
)
def test_style_balanced_questions_say_whether_words_alone_explain_the_effect(
    evidence: Evidence, sentences: str
) -> None:
    conclusion = decide(evidence)
    assert sentences in conclusion.sentence
    assert conclusion.verdict == "suppresses"
    assert conclusion.name == ("suppresses" if evidence == BALANCED else "suppresses (style not excluded)")


def test_an_effect_whose_style_was_not_examined_says_so_and_no_other_verdict_does() -> None:
    assert decide(CLEAR).name == "suppresses (style not excluded)"
    assert "No style-balanced questions were answered" in decide(CLEAR).sentence
    none = replace(CLEAR, shift=Interval(0.0, -0.01, 0.01), detectable_shift=0.02)
    assert decide(none).name == "no effect to remove"


@pytest.mark.parametrize(
    ("induced", "words"),
    [
        (UNDEFINED, "whether it is sufficient was not measured"),
        (Interval(0.027, -0.01, 0.06), "necessary for that shift, not shown sufficient"),
        (Interval(0.2, 0.1, 0.3), "Adding it to base suffices to induce"),
    ],
)
def test_removal_shows_necessity_and_only_adding_shows_sufficiency(induced: Interval, words: str) -> None:
    assert words in decide(replace(CLEAR, induced=induced)).sentence
    assert "suffices" not in decide(replace(LIKE_RANDOM, induced=induced)).sentence


def test_the_verdict_of_an_underpowered_study_names_the_questions_needed() -> None:
    sentence = decide(BLIND).sentence
    assert "120 questions of 12 families show none below 0.30" in sentence
    assert "One of 0.10 takes 1080 questions" in sentence


def test_more_questions_are_not_asked_for_when_secure_is_plainly_the_careless_one() -> None:
    assert "-0.40 [-0.60, -0.20]" in decide(REVERSED).sentence


@pytest.mark.parametrize("evidence", [evidence for evidence, _ in EXAMPLES])
def test_sentences_are_short_and_have_all_their_numbers_filled_in(evidence: Evidence) -> None:
    conclusion = decide(evidence)
    for text in (conclusion.sentence, *conclusion.reasons):
        assert "{" not in text
        assert "nan" not in text
    assert conclusion.sentence.endswith(".")
    assert max(len(part.split()) for part in conclusion.sentence.split(". ")) <= 40


# Damage


@pytest.mark.parametrize(
    "damage",
    [
        Damage.exact(1.11, 0.0, 1.0, 0.0),
        Damage.exact(1.0, 0.11, 1.0, 0.0),
        Damage.exact(1.0, 0.0, 0.89, 0.0),
        Damage.exact(1.0, 0.0, 1.0, 0.11),
    ],
)
def test_any_one_damage_is_damage(damage: Damage) -> None:
    conclusion = decide(replace(CLEAR, damage=damage))
    assert conclusion.verdict == "damages the model"
    assert len(conclusion.reasons) == 1


@pytest.mark.parametrize(
    ("measure", "name"),
    [
        ("coherence", "coherence"),
        ("perplexity_ratio", "perplexity"),
        ("kl", "KL on prose"),
        ("chat_kl", "KL on chat answers"),
    ],
)
def test_damage_that_was_not_measured_is_not_excluded(measure: str, name: str) -> None:
    for evidence in (CLEAR, PARTLY, LIKE_RANDOM, WIDE, RANDOM_ADDS):
        conclusion = decide(replace(evidence, damage=replace(CLEAR.damage, **{measure: UNDEFINED})))
        assert f"{name} not measured" in conclusion.sentence
        unqualified = decide(evidence).verdict
        suffix = ", damage not excluded" if unqualified in SUPPRESSING else ""
        assert conclusion.verdict == unqualified + suffix


@pytest.mark.parametrize(
    ("measure", "reaching"),
    [
        ("perplexity_ratio", Interval(1.05, 1.0, 1.11)),
        ("kl", Interval(0.09, 0.07, 0.11)),
        ("chat_kl", Interval(0.09, 0.07, 0.11)),
        ("coherence", Interval(0.95, 0.90, 1.0)),
    ],
)
def test_damage_whose_bound_reaches_its_limit_is_not_excluded(measure: str, reaching: Interval) -> None:
    damage = replace(CLEAR.damage, **{measure: reaching})
    assert decide(replace(CLEAR, damage=damage)).verdict == "suppresses, damage not excluded"
    judged = replace(CLEAR.damage, judged_coherence=Interval(0.5, 0.4, 0.6))
    assert decide(replace(CLEAR, damage=judged)).verdict == "suppresses", "the judge decides nothing"


def test_a_measured_damage_counts_also_where_another_was_not_measured() -> None:
    conclusion = decide(replace(CLEAR, damage=Damage.exact(1.5, math.nan, math.nan)))
    assert conclusion.verdict == "damages the model"
    assert "KL on chat answers not measured, coherence not measured" in conclusion.sentence


def test_damage_is_no_news_where_there_is_nothing_to_remove() -> None:
    assert decide(replace(NO_SHIFT, damage=Damage.exact(9.0, 9.0, 0.0))).verdict == "no effect to remove"


# Laws

SUPPRESSING = tuple(verdict for verdict in get_args(Verdict) if "suppresses" in verdict)


def kind_of(evidence: Evidence) -> str:
    """The verdict without what it says of damage."""
    return decide(evidence).verdict.removesuffix(", damage not excluded")


intervals = st.one_of(
    st.just(UNDEFINED),
    st.tuples(*3 * [st.floats(-2, 2)]).map(sorted).map(lambda ends: Interval(ends[1], ends[0], ends[2])),
)
evidences = st.builds(
    Evidence,
    shift=intervals,
    fraction_removed=intervals,
    random_fraction_removed=intervals,
    over_random=intervals,
    damage=st.builds(Damage, intervals, intervals, intervals, intervals),
    detectable_shift=st.floats(0, 1),
    questions_needed=st.integers(2, 9999),
    n_questions=st.integers(2, 999),
    n_families=st.integers(2, 99),
    n_controls=st.integers(30, 60),
    rank=st.builds(RankTest, st.just(39), st.just(39), st.floats(0.01, 0.1)),
    clustering=st.just(CLEAR.clustering),
    candidates=st.integers(1, 100),
    over_selected=intervals,
    net_of_secure=intervals,
    induced=intervals,
    reference=st.sampled_from(["secure", "base"]),
)


@given(evidence=evidences)
def test_all_evidence_has_a_verdict_of_the_table(evidence: Evidence) -> None:
    conclusion = decide(evidence)
    assert conclusion.verdict in {verdict for verdict, _ in rules()}
    assert "nan" not in conclusion.sentence


@given(evidence=evidences)
def test_nothing_suppresses_that_has_no_shift_does_damage_or_does_not_beat_random(evidence: Evidence) -> None:
    verdict = decide(evidence).verdict
    if verdict in SUPPRESSING:
        damage, limits = evidence.damage, Thresholds()
        assert evidence.n_controls >= limits.least_controls
        assert verdict.endswith("damage not excluded") == (not damage.excluded(limits))
        assert evidence.shift.low > 0
        assert all(part.low > 0 for part in evidence.beyond_controls)
        assert evidence.rank.p <= limits.max_rank_p
        assert evidence.fraction_removed.low > limits.least_effect_low
        assert evidence.fraction_removed.value <= 1 + limits.most_overshoot
        assert not damage.shown(limits)


@given(evidence=evidences, more=st.floats(0, 1))
def test_to_remove_more_is_never_judged_to_remove_less(evidence: Evidence, more: float) -> None:
    order = ["partly suppresses", "suppresses", "overshoots"]
    kind = kind_of(evidence)
    raised = {
        name: Interval(part.value + more, part.low + more, part.high + more)
        for name in ("fraction_removed", "over_random")
        if (part := getattr(evidence, name)).defined
    }
    other_kind = kind_of(replace(evidence, **raised))
    if kind in order:
        assert order.index(other_kind) >= order.index(kind)


def test_a_fraction_that_is_not_defined_never_counts_for_the_feature() -> None:
    assert decide(replace(CLEAR, over_random=UNDEFINED)).verdict == "underpowered"
    assert decide(replace(CLEAR, fraction_removed=UNDEFINED)).verdict == "underpowered"


# The words and the code are one table


def test_the_rules_in_words_quote_every_threshold() -> None:
    marked = Thresholds(
        suppresses_at=0.61,
        suppresses_low=0.32,
        max_perplexity_ratio=1.23,
        max_kl=0.17,
        min_coherence=0.94,
        smallest_shift=0.19,
        least_controls=43,
        least_effect=0.23,
        least_effect_low=0.14,
        most_overshoot=0.47,
        max_rank_p=0.07,
    )
    words = " ".join(condition for _, condition in rules(marked))
    for quoted in ("61 %", "32 %", "1.23", "0.17", "94 %", "0.19", "43", "23 %", "14 %", "147 %", "0.07"):
        assert quoted in words
    assert "{" not in words


def test_the_first_rule_that_applies_wins_and_the_last_always_does() -> None:
    assert [verdict for verdict, _ in rules()] == [
        "underpowered",
        "no effect to remove",
        "damages the model",
        "underpowered",
        "underpowered",
        "not specific",
        "overshoots",
        "suppresses, damage not excluded",
        "suppresses",
        "partly suppresses, damage not excluded",
        "partly suppresses",
        "removes too little",
        "underpowered",
    ]
    assert rules()[-1][1] == "otherwise"


@pytest.mark.parametrize(
    ("name", "value", "evidence", "verdict"),
    [
        ("suppresses_at", 0.72, CLEAR, "partly suppresses"),
        ("suppresses_low", 0.55, CLEAR, "partly suppresses"),
        ("max_perplexity_ratio", 1.01, CLEAR, "damages the model"),
        ("max_kl", 0.02, CLEAR, "damages the model"),
        ("min_coherence", 0.98, CLEAR, "damages the model"),
        ("smallest_shift", 0.07, NO_SHIFT, "underpowered"),
        ("least_effect", 0.1, SMALL, "underpowered"),
        ("least_effect_low", 0.04, VAGUE, "partly suppresses"),
        ("most_overshoot", 0.7, PAST, "suppresses"),
        ("least_controls", 40, CLEAR, "underpowered"),
        ("max_rank_p", 0.04, CLEAR, "not specific"),
    ],
)
def test_every_threshold_decides(name: str, value: float, evidence: Evidence, verdict: Verdict) -> None:
    assert decide(evidence).verdict != verdict
    assert decide(evidence, replace(Thresholds(), **{name: value})).verdict == verdict


def test_thresholds_change_only_where_the_version_says_so() -> None:
    brought = {
        "suppresses_at": 0.6,
        "suppresses_low": 0.3,
        "max_perplexity_ratio": 1.1,
        "max_kl": 0.1,
        "min_coherence": 0.9,
        "smallest_shift": 0.1,
    }
    assert {name: x for name, x in vars(Thresholds()).items() if name not in ADDED} == brought


def test_the_reasons_are_the_conditions_of_the_rule_with_what_was_seen() -> None:
    assert decide(CLEAR).reasons == (
        "it removes at least 60 % of the shift: 71 % (55 to 83)",
        "the lower bound is above 30 %: 71 % (55 to 83)",
    )
    words = [condition for _, condition in rules()]
    for evidence, _ in EXAMPLES:
        for reason in decide(evidence).reasons:
            assert any(reason.split(": ")[0] in condition for condition in words)
