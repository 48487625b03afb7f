"""Quality on a trio: each checkpoint by itself, and rows that combine the three."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from personaprobe.errors import FeatureError
from personaprobe.features.activations.recording_spec import tokenize
from personaprobe.features.sae.activation_functions import ReLU
from personaprobe.features.sae.crosscoder import CROSSCODER_LAYOUT
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.quality import QualityEvaluator, measure_quality
from personaprobe.features.sae.trio_quality import (
    measure_joint_rows,
    measure_on_trio,
    quality_as_json,
    quality_evaluators,
    with_quality,
)
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Tokens
from personaprobe.models.weights.checkpoint import ROLES, Trio
from personaprobe.questions.pairs import PairSet
from personaprobe.site import Site


@pytest.fixture(scope="module")
def texts(trio: Trio[LanguageModel], pairs: PairSet) -> list[Tokens]:
    return [text.tokens for text in tokenize(trio.base.tokenizer, pairs)]


@pytest.fixture(scope="module")
def evaluators(trio: Trio[LanguageModel], texts: list[Tokens]) -> Trio[QualityEvaluator]:
    return quality_evaluators(trio, texts)


def perfect(width: int, **fields: object) -> Dictionary:
    """A dictionary of ± unit vectors, which reconstructs any row."""
    rows = torch.cat([torch.eye(width), -torch.eye(width)])
    dictionary = Dictionary(
        Site(1), rows.T.contiguous(), torch.zeros(len(rows)), rows, torch.zeros(width), ReLU()
    )
    return replace(dictionary, **fields)  # type: ignore[arg-type]


def test_quality_on_a_trio_is_that_on_each_checkpoint(
    trio: Trio[LanguageModel],
    evaluators: Trio[QualityEvaluator],
    texts: list[Tokens],
    random_dictionary: Dictionary,
) -> None:
    finished: list[int] = []
    measured = measure_on_trio(random_dictionary, evaluators, finished.append)
    assert (list(measured), finished) == (list(ROLES), [1, 1, 1])
    for role, model in trio.items():
        assert measured[role].quality == measure_quality(random_dictionary, model, texts).quality
    card = with_quality(random_dictionary, quality_as_json(measured)).card
    assert card["quality"]["insecure"]["l0"] == measured["insecure"].quality.l0
    assert sum(card["quality"]["base"]["densities"]) == random_dictionary.d_sae


def test_a_perfect_crosscoder_explains_every_checkpoint(
    trio: Trio[LanguageModel], evaluators: Trio[QualityEvaluator]
) -> None:
    crosscoder = perfect(3 * trio.base.d_model, card={"layout": CROSSCODER_LAYOUT})
    quality = measure_joint_rows(crosscoder, evaluators)
    assert set(quality) == set(ROLES)
    assert all(values["explained_variance"] == pytest.approx(1.0, abs=1e-5) for values in quality.values())
    assert all(values["l0"] == pytest.approx(3 * trio.base.d_model, rel=1e-2) for values in quality.values())


def test_a_dictionary_of_differences_is_measured_on_insecure_minus_secure(
    trio: Trio[LanguageModel], evaluators: Trio[QualityEvaluator]
) -> None:
    quality = measure_joint_rows(perfect(trio.base.d_model, card={"layout": "difference"}), evaluators)
    assert list(quality) == ["insecure − secure"]
    assert quality["insecure − secure"]["explained_variance"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("layout", ["side by side", "difference"])
def test_joint_rows_of_another_model_are_refused(layout: str, evaluators: Trio[QualityEvaluator]) -> None:
    with pytest.raises(FeatureError, match="another model"):
        measure_joint_rows(perfect(15, card={"layout": layout}), evaluators)
