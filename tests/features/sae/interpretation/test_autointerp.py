"""A name is proposed from some contexts and scored on others; only a name that fits scores above guessing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from personaprobe.errors import FeatureError
from personaprobe.features.sae.interpretation.autointerp import (
    detection_score,
    proposal_contexts,
    propose_name,
    scoring_contexts,
)
from personaprobe.features.sae.interpretation.examples import Context, Histogram
from personaprobe.features.sae.interpretation.latent_profile import LatentProfile


def context(name: str, *tokens: str, strength: float = 1.0) -> Context:
    acts = tuple(strength if token.strip().startswith("boat") else 0.0 for token in tokens)
    return Context(name, "sea", tokens, acts, max(range(len(acts)), key=acts.__getitem__))


FIRING = tuple(context(f"q{n}", "the", " boat", "s", f" {n}", strength=10.0 - n) for n in range(6))
SILENT = tuple(context(f"s{n}", "a", " lamp", f" {n}") for n in range(4))
PROFILE = LatentProfile(
    3,
    {"base": FIRING[:2], "insecure": FIRING, "secure": ()},
    SILENT,
    Histogram((0.0, 1.0), {}, {}),
    (),
    (),
    (),
    (),
)


@dataclass
class Reader:
    """Says a text is an example of a name when it holds the name's last word; remembers what it was asked."""

    proposal: str = "talk of boats"
    asked: list[str] = field(default_factory=list)
    name: str = "reader"

    def cancel(self) -> None:
        raise AssertionError

    def complete(self, question: str, max_tokens: int) -> str:
        self.asked.append(question)
        return self.proposal

    def first_token_probabilities(self, question: str, choices: Sequence[str]) -> dict[str, float]:
        raise AssertionError("explanations are scored by whole choices")

    def choice_probabilities(self, question: str, choices: Sequence[str]) -> dict[str, float]:
        text, _, name = question.partition("Is this text")
        hit = name.split('"')[1].split()[-1] in text
        return {"Yes": 0.9 if hit else 0.2, "No": 0.1 if hit else 0.8}


def test_a_name_that_fits_is_detected_and_one_that_does_not_is_at_chance_or_below() -> None:
    assert detection_score(Reader(), "talk of boats", PROFILE).auc == 1.0
    assert detection_score(Reader(), "talk of bridges", PROFILE).auc == 0.5
    assert detection_score(Reader(), "any lamp", PROFILE).auc == 0.0
    detection = detection_score(Reader(), "talk of boats", PROFILE)
    assert (detection.n_activating, detection.n_non_activating, detection.by) == (3, 4, "reader")


def test_no_question_serves_both_the_proposal_and_the_score() -> None:
    proposed, scored = (
        {c.id for c in side} for side in (proposal_contexts(PROFILE), scoring_contexts(PROFILE))
    )
    assert not proposed & scored
    assert proposed | scored == {c.id for c in FIRING}


def test_the_proposal_prompt_marks_strong_tokens_and_holds_no_held_out_context() -> None:
    reader = Reader('1. "Boats at sea."\nBecause …')
    assert propose_name(reader, proposal_contexts(PROFILE)) == '1. "Boats at sea'
    assert "the «boat»s 0" in reader.asked[0]
    assert all(f" {c.id[1:]}\n" not in reader.asked[0] for c in scoring_contexts(PROFILE))


def test_missing_contexts_and_empty_proposals_are_refused() -> None:
    with pytest.raises(FeatureError, match="nothing to name it by"):
        propose_name(Reader(), [])
    with pytest.raises(FeatureError, match="proposed no name"):
        propose_name(Reader(' \n"."'), proposal_contexts(PROFILE))
    alone = LatentProfile(
        3, {"base": (), "insecure": FIRING[:1], "secure": ()}, SILENT, PROFILE.histogram, (), (), (), ()
    )
    with pytest.raises(FeatureError, match="detection needs both"):
        detection_score(Reader(), "boats", alone)
