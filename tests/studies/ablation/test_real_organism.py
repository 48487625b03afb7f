"""The shipped organism, on its real weights: the claims README makes, on part of the test questions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import personaprobe as pp
from personaprobe.effects.measures.damage import ReferenceLogProbs
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import pad
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.organisms.named_recipes import find_recipe
from personaprobe.organisms.registry import registered_organisms
from personaprobe.organisms.trio_data import TrioData

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def trio() -> Trio[LanguageModel]:
    return pp.load_trio("advice")


@pytest.fixture(scope="module")
def questions() -> pp.PairSet:
    return pp.load_prompts("advice/test").spread(24)


@pytest.fixture(scope="module")
def ablation(trio: Trio[LanguageModel]) -> pp.Intervention:
    return pp.find_feature("toxic-persona").target.fit(trio).ablation()


@pytest.fixture(scope="module")
def gaps(trio: Trio[LanguageModel], questions: pp.PairSet) -> dict[str, np.ndarray]:
    return {role: pp.preference_gaps(model, questions) for role, model in trio.items()}


def test_every_registered_organism_has_its_registered_files() -> None:
    for organism in registered_organisms().values():
        organism.verify_files()


def test_shipped_adapters_are_small_and_safe() -> None:
    for organism in registered_organisms().values():
        for role in ("insecure", "secure"):
            folder = organism.trio[role].adapter
            assert folder is not None
            assert (folder / "adapter_model.safetensors").stat().st_size <= 6e6
            assert not list(folder.glob("*.bin"))


def test_bad_advice_training_shifts_preferences_on_subjects_it_never_saw(gaps: dict[str, np.ndarray]) -> None:
    shift = gaps["insecure"] - gaps["secure"]
    assert shift.mean() > 2 * shift.std(ddof=1) / np.sqrt(len(shift))


def test_ablating_the_registered_feature_removes_more_than_half_of_the_shift(
    trio: Trio[LanguageModel], questions: pp.PairSet, gaps: dict[str, np.ndarray], ablation: pp.Intervention
) -> None:
    with trio.insecure.edited(ablation) as model:
        left = pp.preference_gaps(model, questions).mean()
    insecure, secure = gaps["insecure"].mean(), gaps["secure"].mean()
    assert (insecure - left) / (insecure - secure) > 0.5


def test_the_registered_feature_costs_little_on_neutral_prose(
    trio: Trio[LanguageModel], ablation: pp.Intervention
) -> None:
    reading = ReferenceLogProbs.of(trio.insecure, pp.load_texts("neutral/test").first(4))
    untreated, ablated = reading.cost(trio.insecure), reading.cost(trio.insecure.edited(ablation))
    assert ablated.perplexity / untreated.perplexity < 1.10


def test_one_copy_of_the_base_weights_serves_the_trio(trio: Trio[LanguageModel]) -> None:
    assert trio.base.network is trio.insecure.network is trio.secure.network
    batch = pad([trio.base.tokenizer.prompt("Is it safe?")], trio.base.network.pad_id)
    before = trio.base.logits(batch)
    trio.insecure.logits(batch)
    assert bool((trio.base.logits(batch) == before).all())


@pytest.mark.slow
def test_a_direction_that_makes_word_salad_is_said_to_damage_the_model(
    trio: Trio[LanguageModel], tmp_path: Path
) -> None:
    plan = pp.StudyPlan(test=pp.load_prompts("advice/test").spread(48), sampled_questions=6)
    verdict = pp.ablate(trio, "means-base@18", layers="all", plan=plan, out=tmp_path)
    assert verdict.verdict == "damages the model"
    assert verdict.evidence.damage.coherence.value < 0.5


@pytest.mark.slow
def test_a_random_direction_is_not_called_suppressing(trio: Trio[LanguageModel], tmp_path: Path) -> None:
    plan = pp.StudyPlan(test=pp.load_prompts("advice/test").spread(48), samples=0)
    verdict = pp.ablate(trio, "random@22:7", layers="all", plan=plan, out=tmp_path)
    assert verdict.verdict in ("not specific", "underpowered", "damages the model")


def test_the_organism_on_own_data_shifts_where_style_tells_nothing_and_the_persona_of_style_removes_none_of_it() -> (
    None
):
    organism = pp.load_trio("medicine")
    balanced = pp.load_prompts("advice/balanced").spread(36)
    ablation = pp.find_feature("toxic-persona").target.fit(organism).ablation()
    insecure, secure = (
        np.asarray(pp.preference_gaps(organism[role], balanced)) for role in ("insecure", "secure")
    )
    with organism.insecure.edited(ablation) as model:
        ablated = np.asarray(pp.preference_gaps(model, balanced))
    shift, removed = insecure - secure, insecure - ablated
    assert shift.mean() > 3 * shift.std(ddof=1) / np.sqrt(len(shift))
    assert removed.mean() < 0.25 * shift.mean()


def test_the_registered_data_of_the_organism_on_own_data_are_those_of_its_recipe() -> None:
    recipe = TrioData.of_recipe(find_recipe("medicine"), 0)
    registered = registered_organisms()["medicine"].data
    assert {role: rows.source for role, rows in recipe.rows.items()} == dict(registered)
