"""A feature is read from both fine-tunes at every step, and a planted push along it is seen as far as it was planted."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from personaprobe.effects.interventions.along_direction import Steer
from personaprobe.effects.interventions.latents import AblateLatents
from personaprobe.effects.targets.direction import DirectionTarget
from personaprobe.effects.targets.latents import LatentsTarget
from personaprobe.errors import FeatureError
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.features.sae.activation_functions import ReLU
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.latents import Latents
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import Pair, PairSet
from personaprobe.site import Site
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.dynamics.feature_course import activities_of, mean_activities, measure_feature

WORDS = [f"w{number}" for number in range(40)]
AXIS = Direction(Site(1), torch.arange(1.0, 33.0), "test", {1: Calibration(0.1, 2.0)})


@pytest.fixture(scope="module")
def trio(
    tiny_trio: Callable[..., Trio[LanguageModel]], word_tokenizer: Callable[..., ChatTokenizer]
) -> Trio[LanguageModel]:
    return tiny_trio(word_tokenizer(WORDS), 0.05)


@pytest.fixture(scope="module")
def questions() -> PairSet:
    drawn = random.Random(0)
    pairs = (
        Pair(f"q{i}", f"f{i % 2}", *(" ".join(drawn.choices(WORDS, k=2 + i)) for _ in range(3)))
        for i in range(6)
    )
    return PairSet("tiny", tuple(pairs))


@pytest.fixture(scope="module")
def latents() -> Latents:
    rows = 3 * torch.nn.functional.normalize(torch.randn(24, 32, generator=torch.Generator().manual_seed(0)))
    shape = (Site(1), rows.T.contiguous(), torch.full((24,), 0.5), rows, torch.zeros(32), ReLU())
    return Latents(Dictionary(*shape, name="rows"), (3, 7))


def test_a_push_along_a_direction_is_read_in_units_of_its_axis(
    trio: Trio[LanguageModel], questions: PairSet
) -> None:
    activity = DirectionTarget(AXIS).activity()
    plain = np.array(mean_activities(trio.insecure, activity, questions))
    pushed = np.array(mean_activities(trio.insecure.edited(Steer(AXIS, 0.75)), activity, questions))
    np.testing.assert_allclose(pushed - plain, 0.75, atol=1e-4)


def test_latents_are_read_by_how_much_they_write_whatever_their_scale(
    trio: Trio[LanguageModel], questions: PairSet, latents: Latents
) -> None:
    one = latents.dictionary
    scaled = Dictionary(
        one.site, 5 * one.W_enc, 5 * one.b_enc, one.W_dec / 5, one.b_dec, ReLU(), name="scaled"
    )
    activities = [
        np.array(mean_activities(trio.insecure, LatentsTarget(of).activity(), questions))
        for of in (latents, Latents(scaled, latents.latents))
    ]
    assert activities[0].min() >= 0
    assert activities[0].max() > 0
    np.testing.assert_allclose(activities[0], activities[1], rtol=1e-4)
    without = trio.insecure.edited(AblateLatents(one, latents.latents))
    assert sum(mean_activities(without, LatentsTarget(latents).activity(), questions)) < activities[0].sum()


def test_the_course_is_insecure_minus_secure_at_every_step_and_is_kept(
    trio: Trio[LanguageModel], questions: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trio.secure is not None
    activity = DirectionTarget(AXIS).activity()
    tuned = {
        5: {"insecure": trio.secure, "secure": trio.secure},
        10: {"insecure": trio.insecure, "secure": trio.secure},
    }
    course, halves = measure_feature(tuned, activity, questions, RunContext.of(tmp_path))
    insecure, secure = (
        np.array(mean_activities(model, activity, questions)) for model in (trio.insecure, trio.secure)
    )
    assert course.steps == (0, 5, 10)
    assert [one.value for one in course.intervals] == pytest.approx([0, 0, (insecure - secure).mean()])

    monkeypatch.setattr(
        "personaprobe.studies.dynamics.feature_course.mean_activities",
        lambda *_: pytest.fail("measured again"),
    )
    again, _ = measure_feature(tuned, activity, questions, RunContext.of(tmp_path))
    assert again == course
    assert len(halves) > 0


def test_a_feature_that_would_be_fitted_is_refused(trio: Trio[LanguageModel]) -> None:
    with pytest.raises(FeatureError, match="registered direction, or latents"):
        activities_of(["means@1"], trio.base)


def test_a_feature_of_another_model_is_refused(trio: Trio[LanguageModel], tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    Direction(Site(1), torch.ones(16), "other", {1: Calibration(0.0, 1.0)}).save(path)
    with pytest.raises(FeatureError, match="d_model 16"):
        activities_of([str(path)], trio.base)
