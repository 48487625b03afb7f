"""Damage in words, its limits by name, and as plain data."""

from __future__ import annotations

from dataclasses import replace

from personaprobe.effects.verdict.damage import Damage
from personaprobe.effects.verdict.thresholds import THRESHOLDS
from personaprobe.statistics.intervals import UNDEFINED, Interval

LITTLE = Damage(
    perplexity_ratio=Interval(1.05, 1.04, 1.06),
    kl=Interval(0.062, 0.055, 0.07),
    chat_kl=Interval(0.07, 0.06, 0.08),
    coherence=Interval(1.0, 0.96, 1.04),
)


def test_little_damage_is_excluded_and_not_shown() -> None:
    assert not LITTLE.shown()
    assert LITTLE.excluded()
    assert LITTLE.exceeded() == LITTLE.not_excluded() == ()


def test_a_bound_beyond_its_limit_is_named_and_so_is_an_estimate() -> None:
    limit = THRESHOLDS.max_kl
    perhaps = replace(LITTLE, chat_kl=Interval(limit - 0.01, limit - 0.03, limit + 0.01))
    assert (perhaps.exceeded(), perhaps.not_excluded()) == ((), ("KL on chat answers",))
    surely = replace(LITTLE, coherence=Interval(0.85, 0.8, 0.95), kl=Interval(0.2, 0.19, 0.21))
    assert surely.exceeded() == surely.not_excluded() == ("KL on prose", "coherence")


def test_the_lower_bound_of_coherence_has_to_lie_above_the_bar_and_not_on_it() -> None:
    bar = THRESHOLDS.min_coherence
    assert replace(LITTLE, coherence=Interval(1.0, bar, 1.1)).not_excluded() == ("coherence",)


def test_an_unmeasured_measure_is_not_excluded_and_exceeds_nothing() -> None:
    unmeasured = replace(LITTLE, chat_kl=UNDEFINED)
    assert (unmeasured.exceeded(), unmeasured.not_excluded()) == ((), ("KL on chat answers",))
    assert not unmeasured.measured


def test_the_judges_coherence_decides_nothing() -> None:
    assert replace(LITTLE, judged_coherence=Interval(0.1, 0.0, 0.2)).excluded()


def test_damage_is_said_with_its_intervals() -> None:
    assert "perplexity × 1.05 (1.04 to 1.06), KL on prose 0.062 nats per token (0.055 to 0.070)" in str(
        LITTLE
    )


def test_damage_survives_plain_data_and_single_numbers_have_no_interval() -> None:
    assert str(Damage.from_dict(LITTLE.to_dict())) == str(LITTLE)
    earlier = Damage.from_dict({"perplexity_ratio": 1.05, "kl": 0.06, "coherence": None})
    assert earlier.perplexity_ratio == Interval(1.05, 1.05, 1.05)
    assert not earlier.coherence.defined
    assert not earlier.chat_kl.defined
