"""Directions: found where they were planted, calibrated so that 0 and 1 mean something, kept without loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from personaprobe.effects.interventions.along_direction import Steer
from personaprobe.errors import DataError, FeatureError, SiteError
from personaprobe.features.activations.recording import record
from personaprobe.features.activations.store import ActivationStore
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet
from personaprobe.site import Site


def means(shift: torch.Tensor) -> tuple[dict[int, torch.Tensor], dict[int, torch.Tensor]]:
    rest = {layer: torch.randn(16, generator=torch.Generator().manual_seed(layer)) for layer in range(4)}
    return rest, {layer: mean + (layer + 1) * shift for layer, mean in rest.items()}


def test_the_reference_reads_zero_and_insecure_reads_one_at_every_layer() -> None:
    rest, insecure = means(torch.ones(16))
    axis = Direction(Site(2), torch.ones(16), "test").calibrated(rest, insecure)
    for layer in range(4):
        assert float(axis.read(rest[layer], layer)) == pytest.approx(0, abs=1e-5)
        assert float(axis.read(insecure[layer], layer)) == pytest.approx(1, abs=1e-5)


def test_a_direction_has_unit_norm_whatever_came() -> None:
    assert float(Direction(Site(0), 37 * torch.ones(9), "test").vector.norm()) == pytest.approx(1)


@pytest.mark.parametrize(
    "vector", [torch.zeros(4), torch.tensor([1.0, float("nan")]), torch.tensor([float("inf")])]
)
def test_a_direction_without_direction_is_refused(vector: torch.Tensor) -> None:
    with pytest.raises(FeatureError, match="finite values, not all zero"):
        Direction(Site(0), vector, "test")


def test_saving_loses_nothing(tmp_path: Path) -> None:
    axis = Direction(
        Site(3, "mlp_out"), torch.randn(16), "means", {1: Calibration(0.1, 2.0), 3: Calibration(-1.5, 0.25)}
    )
    axis.save(tmp_path / "d.safetensors")
    loaded = Direction.load(tmp_path / "d.safetensors")
    assert torch.equal(loaded.vector, axis.vector)
    assert (loaded.site, loaded.source, loaded.calibrations, loaded.digest) == (
        axis.site,
        axis.source,
        axis.calibrations,
        axis.digest,
    )


SHIPPED = sorted((Path(__file__).resolve().parents[3] / "checkpoints" / "features").glob("*.safetensors"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_calibration_of_a_shipped_direction_is_read_from_the_keys_it_was_written_with(path: Path) -> None:
    with safe_open(path, "pt") as opened:
        written = json.loads(opened.metadata()["personaprobe"])["marks"]
    direction = Direction.load(path)
    assert written
    for layer, (reference, gap) in written.items():
        assert direction.calibration(int(layer)) == Calibration(reference, gap)


def test_the_digest_depends_on_everything_that_acts() -> None:
    vector = torch.arange(1.0, 9.0)
    axis = Direction(Site(1), vector, "a", {1: Calibration(0.0, 1.0)})
    others = [
        Direction(Site(2), vector, "a", {1: Calibration(0.0, 1.0)}),
        Direction(Site(1), -vector, "a", {1: Calibration(0.0, 1.0)}),
        Direction(Site(1), vector, "a", {1: Calibration(0.5, 1.0)}),
    ]
    assert len({axis.digest, *(other.digest for other in others)}) == 4


def test_a_pickle_is_refused_without_being_opened(tmp_path: Path) -> None:
    torch.save({"direction": torch.ones(4)}, tmp_path / "d.pt")
    with pytest.raises(FeatureError, match="can run code and are refused"):
        Direction.load(tmp_path / "d.pt")


def test_other_safetensors_are_not_taken_for_a_direction(tmp_path: Path) -> None:
    save_file({"direction": torch.ones(4)}, tmp_path / "d.safetensors")
    with pytest.raises(FeatureError, match="not a direction"):
        Direction.load(tmp_path / "d.safetensors")


def test_a_missing_file_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="no direction file"):
        Direction.load(tmp_path / "none.safetensors")


@pytest.fixture(scope="module")
def axis(trio: Trio[LanguageModel]) -> Direction:
    """What is planted: a step of five at layer 1."""
    vector = torch.randn(trio.base.d_model, generator=torch.Generator().manual_seed(7))
    return Direction(Site(1), vector, "planted", {1: Calibration(0.0, 5.0)})


@pytest.fixture(scope="module")
def shifted(
    trio: Trio[LanguageModel], pairs: PairSet, axis: Direction, tmp_path_factory: pytest.TempPathFactory
) -> Trio[ActivationStore]:
    """Stores of one model, whose insecure fine-tune is the planted step and nothing else."""
    moved = trio.base.edited(Steer(axis))
    planted = Trio(trio.base, moved, trio.base, "planted")
    sites = ["0.resid_post", "1.resid_post", "1.mlp_out", "2.resid_post"]
    return record(planted, pairs, sites, home=tmp_path_factory.mktemp("home"))


def test_a_planted_shift_is_recovered_from_the_means(shifted: Trio[ActivationStore], axis: Direction) -> None:
    direction = Direction.from_means(shifted["insecure"], shifted["secure"], site="1.resid_post")
    assert direction.cosine(axis) == pytest.approx(1, abs=1e-5)
    assert direction.gap == pytest.approx(5, rel=1e-4)
    assert (direction.site, direction.source) == (Site(1), "means")


def test_a_direction_of_means_is_calibrated_at_every_shared_layer_of_its_stream(
    shifted: Trio[ActivationStore],
) -> None:
    direction = Direction.from_means(shifted["insecure"], shifted["secure"], site="1.resid_post")
    assert list(direction.calibrations) == [0, 1, 2]
    assert direction.calibrations[0].gap == pytest.approx(0, abs=1e-6), "nothing was planted before layer 1"
    for role, reading in (("secure", 0.0), ("insecure", 1.0)):
        mean = shifted[role].mean("2.resid_post")
        assert float(direction.read(mean, layer=2)) == pytest.approx(reading, abs=1e-4)


def test_models_that_do_the_same_have_no_direction_of_means(shifted: Trio[ActivationStore]) -> None:
    with pytest.raises(FeatureError, match="not all zero"):
        Direction.from_means(shifted["secure"], shifted["base"], site="1.resid_post")


def test_a_direction_of_means_needs_a_recorded_site(shifted: Trio[ActivationStore]) -> None:
    with pytest.raises(SiteError, match="was not recorded"):
        Direction.from_means(shifted["insecure"], shifted["secure"], site="0.mlp_out")


def test_a_direction_of_means_needs_the_same_texts(
    shifted: Trio[ActivationStore], trio: Trio[LanguageModel], pairs: PairSet, tmp_path: Path
) -> None:
    other = record(trio, pairs.spread(3), "1.resid_post", home=tmp_path)
    with pytest.raises(DataError, match="do not align"):
        Direction.from_means(shifted["insecure"], other["secure"], site="1.resid_post")
