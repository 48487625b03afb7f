"""Directions: found where they were planted, calibrated so that 0 and 1 mean something, kept without loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from personaprobe.errors import FeatureError
from personaprobe.features.directions import Direction, Mark
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
    axis = Direction(Site(3, "mlp_out"), torch.randn(16), "means", {1: Mark(0.1, 2.0), 3: Mark(-1.5, 0.25)})
    axis.save(tmp_path / "d.safetensors")
    loaded = Direction.load(tmp_path / "d.safetensors")
    assert torch.equal(loaded.vector, axis.vector)
    assert (loaded.site, loaded.source, loaded.marks, loaded.digest) == (
        axis.site,
        axis.source,
        axis.marks,
        axis.digest,
    )


def test_the_digest_depends_on_everything_that_acts() -> None:
    vector = torch.arange(1.0, 9.0)
    axis = Direction(Site(1), vector, "a", {1: Mark(0.0, 1.0)})
    others = [
        Direction(Site(2), vector, "a", {1: Mark(0.0, 1.0)}),
        Direction(Site(1), -vector, "a", {1: Mark(0.0, 1.0)}),
        Direction(Site(1), vector, "a", {1: Mark(0.5, 1.0)}),
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
