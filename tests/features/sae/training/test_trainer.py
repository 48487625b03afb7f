"""Training recovers planted directions, resumes to the same bits, and logs plain numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from personaprobe.errors import FeatureError
from personaprobe.features.sae.training.architectures.architecture import Architecture
from personaprobe.features.sae.training.architectures.batchtopk import BatchTopKArchitecture
from personaprobe.features.sae.training.architectures.jumprelu import JumpReLUArchitecture
from personaprobe.features.sae.training.architectures.matryoshka import MatryoshkaArchitecture
from personaprobe.features.sae.training.architectures.relu import ReLUArchitecture
from personaprobe.features.sae.training.architectures.topk import TopKArchitecture
from personaprobe.features.sae.training.batches import BatchLoader
from personaprobe.features.sae.training.trainer import METRICS, SAERecipe, SAETrainer, train_dictionaries
from personaprobe.site import Site
from random_dictionaries import D, M


def planted(n: int = 40_000, n_features: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Sparse sums of known directions, and the directions."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(n_features, D, generator=generator), dim=-1)
    fires = torch.rand(n, n_features, generator=generator) < 0.06
    strengths = 1.0 + torch.rand(n, n_features, generator=generator)
    return (fires * strengths) @ directions + 0.5, directions


LEARNING: dict[str, Architecture] = {
    "topk": TopKArchitecture(2),
    "batchtopk": BatchTopKArchitecture(1.6),
    "matryoshka": MatryoshkaArchitecture(1.6, widths=(12,)),
    "relu": ReLUArchitecture(l1=1.0),
    "jumprelu": JumpReLUArchitecture(l0=0.3, bandwidth=0.5, start=0.2),
}


def recipe(architecture: Architecture, **changed: Any) -> SAERecipe:
    options = {"d_sae": M, "steps": 600, "learning_rate": 3e-3, "warmup": 20, "dead_after": 5000, **changed}
    return SAERecipe(architecture, **options)


@pytest.mark.parametrize("name", LEARNING)
def test_training_recovers_planted_directions_and_explains_the_rows(name: str, tmp_path: Path) -> None:
    rows, directions = planted()
    loader = BatchLoader([lambda: rows], batch_rows=512)
    trainer = SAETrainer(recipe(LEARNING[name]), loader.sample())
    for _ in train_dictionaries(loader, {tmp_path: trainer}):
        pass
    learned = trainer.dictionary(Site(0), "planted")
    acts = learned.encode(rows)
    left = (rows - learned.decode(acts)).pow(2).sum() / (rows - rows.mean(0)).pow(2).sum()
    cosines = (learned.W_dec @ directions.T).max(0).values
    assert float(left) < 0.25
    assert float((cosines > 0.9).float().mean()) > 0.7
    assert float((acts > 0).sum(-1).float().mean()) < M / 5
    assert torch.allclose(learned.W_dec.norm(dim=-1), torch.ones(M), atol=1e-5)


def test_a_trained_dictionary_encodes_activations_in_their_own_units(tmp_path: Path) -> None:
    rows, _ = planted(8000)
    learned = {}
    for name, factor in (("small", 1.0), ("large", 50.0)):
        loader = BatchLoader([lambda f=factor: rows * f], batch_rows=512)  # type: ignore[misc]
        trainer = SAETrainer(recipe(BatchTopKArchitecture(1.6), steps=100), loader.sample())
        for _ in train_dictionaries(loader, {tmp_path / name: trainer}):
            pass
        learned[name] = trainer.dictionary(Site(0), name)
    small, large = learned["small"].encode(rows), learned["large"].encode(50 * rows)
    assert float((50 * small - large).abs().max()) < 1e-2 * float(large.max())


def test_an_interrupted_training_resumes_to_the_same_bits(tmp_path: Path) -> None:
    rows, _ = planted(8000)
    loader = BatchLoader([lambda: rows[:5000], lambda: rows[5000:]], batch_rows=256)
    given = recipe(BatchTopKArchitecture(1.6), steps=90)

    def trained(folder: Path, stop: int | None = None) -> SAETrainer:
        trainer = SAETrainer(given, loader.sample())
        for _ in train_dictionaries(loader, {folder: trainer}, save_every=20, log_every=10):
            if stop is not None and trainer.steps_taken >= stop:
                break
        return trainer

    whole = trained(tmp_path / "whole")
    trained(tmp_path / "cut", stop=50)
    resumed = trained(tmp_path / "cut")
    assert resumed.steps_taken == 90
    for name, tensor in whole.autoencoder.state_dict().items():
        assert torch.equal(tensor, resumed.autoencoder.state_dict()[name]), name


def test_dictionaries_trained_side_by_side_equal_those_trained_alone(tmp_path: Path) -> None:
    rows, _ = planted(4000)
    loader = BatchLoader([lambda: rows], batch_rows=256)
    recipes = [recipe(TopKArchitecture(k), steps=30 + 10 * k, d_sae=10 * k) for k in (1, 2)]
    together = {tmp_path / str(i): SAETrainer(each, loader.sample()) for i, each in enumerate(recipes)}
    for _ in train_dictionaries(loader, together):
        pass
    for each, trainer in zip(recipes, together.values(), strict=True):
        alone = SAETrainer(each, loader.sample())
        for _ in train_dictionaries(loader, {tmp_path / f"alone {each.d_sae}": alone}):
            pass
        assert torch.equal(alone.autoencoder.decoder, trainer.autoencoder.decoder)


def test_every_logged_step_is_a_line_of_plain_numbers(tmp_path: Path) -> None:
    rows, _ = planted(4000)
    loader = BatchLoader([lambda: rows], batch_rows=256)
    shown = list(
        train_dictionaries(
            loader,
            {tmp_path: SAETrainer(recipe(TopKArchitecture(2), steps=30), loader.sample())},
            log_every=10,
        )
    )
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert lines[-1]["l0"] == shown[-1][tmp_path].l0 == pytest.approx(2, abs=0.3)


def test_the_auxiliary_loss_revives_dead_latents(tmp_path: Path) -> None:
    rows, _ = planted(8000)
    loader = BatchLoader([lambda: rows], batch_rows=256)

    def dead(aux: float) -> float:
        trainer = SAETrainer(
            recipe(TopKArchitecture(2, aux=aux), steps=250, dead_after=2000), loader.sample()
        )
        with torch.no_grad():
            trainer.autoencoder.b_enc[20:] = -3.0
        for _ in train_dictionaries(loader, {tmp_path / str(aux): trainer}):
            pass
        return float(trainer.autoencoder.dead(2000).float().mean())

    assert dead(0.5) < dead(0.0) - 0.2


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    rows, _ = planted(2000)
    loader = BatchLoader([lambda: rows], batch_rows=256)
    first = recipe(TopKArchitecture(2), steps=10)
    list(train_dictionaries(loader, {tmp_path: SAETrainer(first, loader.sample())}))
    with pytest.raises(FeatureError, match="another recipe"):
        list(
            train_dictionaries(
                loader, {tmp_path: SAETrainer(replace(first, learning_rate=1e-4), loader.sample())}
            )
        )


def test_a_state_holds_everything_the_next_step_depends_on(tmp_path: Path) -> None:
    rows, _ = planted(2000)
    loader = BatchLoader([lambda: rows], batch_rows=256)
    options = recipe(TopKArchitecture(2), steps=10)
    trainer = SAETrainer(options, loader.sample())
    list(train_dictionaries(loader, {tmp_path: trainer}))
    resumed = SAETrainer(options, loader.sample())
    resumed.resume(tmp_path)
    kept, parameters = (one.autoencoder.state_dict() for one in (trainer, resumed))
    assert kept.keys() == parameters.keys() >= {"rows_since_fired", "decoder", "threshold"}
    assert all(torch.equal(value, parameters[name]) for name, value in kept.items())
    assert resumed.steps_taken == 10
