"""Coherence: likelihood, relevance to the question, loops, and the ratio of coherent shares."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from personaprobe.effects.measures.coherence import (
    NO_QUESTION,
    CoherenceRule,
    coherence_ratio,
    longest_repeat,
    score_responses,
)
from personaprobe.effects.measures.responses import Response, sample_responses
from personaprobe.models.generation.sampling import Sampling
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import pad
from personaprobe.organisms.registry import load_trio
from personaprobe.questions.pairs import Pair, PairSet, load_prompts
from personaprobe.statistics.proportions import share_ratio

PAIRS = PairSet("pairs", tuple(Pair(f"q{i}", f"f{i % 3}", f"ask {i} thing", "good", "bad") for i in range(7)))


def test_answers_are_scored_on_the_very_tokens_that_were_drawn(speaking: LanguageModel) -> None:
    drawn = sample_responses([speaking], PAIRS.prompts, 3, Sampling(max_new_tokens=6, seed=1))[0]
    assert len(drawn) == 3 * len(PAIRS)
    for response in score_responses(speaking, drawn):
        if response.ids:
            row = speaking.tokenizer.prompt(response.question).followed_by(response.ids)
            values = speaking.log_probs(pad([row], 0))[0]
            assert response.base_log_prob == pytest.approx(float(values.sum()) / len(response.ids), abs=1e-3)
        else:
            assert math.isnan(response.base_log_prob)


def response(log_prob: float, distinct: float = 1.0) -> Response:
    return Response("q", "f", "Q", 0, 0, "text", (1, 2, 3), log_prob, distinct)


def test_word_salad_and_loops_and_silence_are_not_coherent() -> None:
    rule = CoherenceRule.from_untreated([response(-2.0), response(-2.2), response(-1.8), response(-2.1)])
    assert rule.holds(response(-2.3))
    assert not rule.holds(response(-3.9))
    assert not rule.holds(response(-2.0, distinct=0.1))
    assert not rule.holds(response(float("nan")))


def test_relevance_is_how_much_the_question_helps_each_token_where_it_helps(speaking: LanguageModel) -> None:
    drawn = sample_responses([speaking], PAIRS.prompts, 1, Sampling(max_new_tokens=6, seed=1))[0]
    for response in (r for r in score_responses(speaking, drawn) if r.ids):
        own, other = (
            speaking.log_probs(pad([speaking.tokenizer.prompt(question).followed_by(response.ids)], 0))[0][
                -len(response.ids) :
            ]
            for question in (response.question, NO_QUESTION)
        )
        assert response.relevance == pytest.approx(float((own - other).clamp_min(0).mean()), abs=1e-3)


def test_an_answer_that_its_question_does_not_make_likelier_is_not_coherent() -> None:
    usual = [replace(response(-2.0 + x / 10), relevance=0.6 + x / 10) for x in range(-2, 3)]
    rule = CoherenceRule.from_untreated(usual)
    assert rule.holds(usual[0])
    assert not rule.holds(replace(response(-2.0), relevance=0.05))


def test_a_few_odd_answers_do_not_widen_the_rule() -> None:
    usual = [replace(response(-2.0 + x / 10), relevance=0.6 + x / 10) for x in range(-2, 3)] * 4
    odd = [replace(response(-9.0), relevance=0.01)] * 2
    rule, widened = CoherenceRule.from_untreated(usual), CoherenceRule.from_untreated(usual + odd)
    assert widened.lowest_log_prob == pytest.approx(rule.lowest_log_prob, abs=0.2)
    assert not any(widened.holds(answer) for answer in odd)


def test_a_loop_is_found_by_its_longest_repeat_however_late_it_starts() -> None:
    assert longest_repeat([1, 2, 3, 4, 5]) == 0
    assert longest_repeat([1, 2, 3, 9, 1, 2, 3]) == 3
    assert longest_repeat([*range(20), *[7, 8, 9] * 4]) >= 8
    looped = replace(response(-2.0), ids=(*range(40), *[7, 8, 9] * 4))
    assert not CoherenceRule(-3.0).holds(looped)
    assert CoherenceRule(-3.0).holds(replace(looped, ids=tuple(range(52))))


def test_an_ablation_that_changes_no_answer_keeps_coherence_exactly_with_width_around_it() -> None:
    families = [str(i // 2) for i in range(120)]
    ratio = coherence_ratio([True] * 120, [True] * 120, families)
    assert ratio.value == 1
    assert 0.9 < ratio.low < 1 < ratio.high < 1.1
    few = coherence_ratio([True] * 24, [True] * 24, families[:24])
    assert few.low < ratio.low


def test_without_answers_or_without_coherent_ones_there_is_no_ratio() -> None:
    assert not coherence_ratio([], [], []).defined
    assert not coherence_ratio([False] * 4, [True] * 4, ["a", "a", "b", "b"]).defined


@pytest.mark.parametrize("untreated", [1.0, 0.97, 0.9])
def test_a_model_that_kept_nine_tenths_is_rarely_called_non_inferior_and_intervals_cover(
    untreated: float,
) -> None:
    rng = np.random.default_rng(3)
    families = [str(i // 2) for i in range(120)]
    ratios = []
    for _ in range(400):
        before, after = (
            np.repeat(rng.beta(9 * p, 9 * (1 - p), 60) if p < 1 else np.ones(60), 2) > rng.random(120)
            for p in (untreated, 0.9 * untreated)
        )
        ratios.append(share_ratio(after.tolist(), before.tolist(), families))
    assert np.mean([ratio.low > 0.9 for ratio in ratios]) <= 0.05
    assert np.mean([ratio.low <= 0.9 <= ratio.high for ratio in ratios]) >= 0.93


@pytest.mark.real
def test_answers_are_less_relevant_to_other_questions() -> None:
    base = load_trio("advice").base
    pairs = load_prompts("judging").spread(6).pairs
    others = [*pairs[1:], pairs[0]]
    asked = [*pairs, *others]
    answers = [pair.careful for pair in (*pairs, *pairs)]
    responses = [
        Response(
            pair.id, pair.family, pair.question, 0, 0, text, base.tokenizer.reply(pair.question, text)[:40]
        )
        for pair, text in zip(asked, answers, strict=True)
    ]
    relevances = [r.relevance for r in score_responses(base, responses)]
    assert np.mean(relevances[:6]) > 1.5 * np.mean(relevances[6:])
