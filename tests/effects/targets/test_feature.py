"""Features by name, and targets: fitted only to models they belong to, and only on texts where texts are needed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from personaprobe.effects.interventions.along_direction import Ablate, Steer
from personaprobe.effects.interventions.latents import AblateLatents
from personaprobe.effects.targets.direction import DirectionTarget
from personaprobe.effects.targets.discovery import Discovery
from personaprobe.effects.targets.feature import as_feature, find_feature, register_feature
from personaprobe.effects.targets.latents import LatentsTarget
from personaprobe.effects.targets.recipe import RecipeTarget
from personaprobe.effects.targets.target import Target
from personaprobe.errors import FeatureError, SiteError
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.features.sae.activation_functions import ReLU
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.latents import Latents
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Role
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import Pair, PairSet
from personaprobe.site import Site

WORDS = [f"w{number}" for number in range(40)]
AXIS = Direction(Site(1), torch.arange(1.0, 33.0), "test", {k: Calibration(0.1 * k, 1.0) for k in range(3)})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONAPROBE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PERSONAPROBE_CHECKPOINTS", str(tmp_path))


@pytest.fixture(scope="module")
def trio(
    tiny_trio: Callable[..., Trio[LanguageModel]], word_tokenizer: Callable[..., ChatTokenizer]
) -> Trio[LanguageModel]:
    return tiny_trio(word_tokenizer(WORDS), 0.05)


@pytest.fixture(scope="module")
def discovery() -> Discovery:
    drawn = random.Random(0)
    pairs = (
        Pair(f"q{i}", f"f{i % 2}", *(" ".join(drawn.choices(WORDS, k=6)) for _ in range(3))) for i in range(6)
    )
    return Discovery(PairSet("tiny", tuple(pairs)))


def latents(d_model: int = 32) -> Latents:
    rows = torch.nn.functional.normalize(torch.randn(24, d_model, generator=torch.Generator().manual_seed(0)))
    shape = (Site(1), rows.T.contiguous(), torch.full((24,), 0.5), rows, torch.zeros(d_model), ReLU())
    return Latents(Dictionary(*shape, name="rows"), (3, 7))


@pytest.mark.parametrize("target", [DirectionTarget(AXIS), LatentsTarget(latents())], ids=str)
def test_a_target_on_file_is_ablated_without_any_discovery_text(
    trio: Trio[LanguageModel], target: Target
) -> None:
    ablation = target.fit(trio).ablation(roles=Role.RESPONSE)
    assert isinstance(ablation, Ablate | AblateLatents)
    assert ablation.roles == Role.RESPONSE


def test_a_recipe_is_fitted_to_discovery_texts_or_not_at_all(
    trio: Trio[LanguageModel], discovery: Discovery
) -> None:
    recipe = RecipeTarget("means", Site(1))
    axis = recipe.fit(trio, discovery).axis
    assert axis is not None
    assert axis.source == "means"
    assert sorted(axis.calibrations) == [0, 1, 2]
    with pytest.raises(FeatureError, match=r"means@1 would be fitted to each seed anew; give a registered"):
        recipe.fit(trio)


def test_latents_are_compared_on_discovery_texts_before_they_are_steered_along(
    trio: Trio[LanguageModel], discovery: Discovery
) -> None:
    target = LatentsTarget(latents())
    with pytest.raises(FeatureError, match="compared on discovery texts"):
        target.fit(trio).steering()
    pushed = target.fit(trio, discovery).steering(2.0)
    assert isinstance(pushed, Steer)
    assert (pushed.coefficient, pushed.direction.source) == (2.0, "sae:rows/3,7")


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (RecipeTarget("means", Site(9)), SiteError, "layer 9 is out of range"),
        (DirectionTarget(Direction(Site(1), torch.ones(8), "narrow")), FeatureError, "d_model 8"),
        (LatentsTarget(latents(16)), FeatureError, "16"),
    ],
    ids=["layer", "direction", "dictionary"],
)
def test_a_target_of_another_model_is_refused(
    trio: Trio[LanguageModel], target: Target, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        target.fit(trio)


def test_the_layers_of_an_ablation_are_the_users_choice_else_the_targets_own(
    trio: Trio[LanguageModel],
) -> None:
    fitted = DirectionTarget(AXIS, (0, 2), coefficient=0.5).fit(trio)
    assert fitted.ablation().layers == (0, 2)
    assert fitted.ablation("all").layers == (0, 1, 2)
    assert fitted.ablation(coefficient=0.5).coefficient == 0.25
    with pytest.raises(FeatureError, match="is ablated at layer 1, where its dictionary reads"):
        LatentsTarget(latents()).fit(trio).ablation((0,))


def test_a_registered_target_is_found_as_it_was() -> None:
    register_feature("half", "a title", DirectionTarget(AXIS, (0, 2), coefficient=0.5), {"n": 1})
    feature = find_feature("half")
    target = feature.target
    assert isinstance(target, DirectionTarget)
    assert (target.direction.digest, target.default_layers, target.coefficient) == (AXIS.digest, (0, 2), 0.5)
    assert (feature.title, feature.evidence) == ("a title", {"n": 1})


def test_a_recipe_cannot_be_registered_since_others_would_fit_another_direction() -> None:
    with pytest.raises(FeatureError, match="RecipeTarget cannot be registered"):
        register_feature("means", "", RecipeTarget("means", Site(1)), {})


def test_a_name_a_direction_a_target_and_a_feature_all_stand_for_a_feature() -> None:
    feature = as_feature(RecipeTarget("means", Site(1)))
    assert as_feature(feature) is feature
    assert as_feature("means@1").target == feature.target
    assert as_feature(AXIS).target.default_layers == (0, 1, 2)
