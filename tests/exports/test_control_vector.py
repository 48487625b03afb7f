"""What leaves for llama.cpp is what acts here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import personaprobe as pp
from personaprobe.effects.interventions.along_direction import Steer
from personaprobe.errors import SiteError
from personaprobe.exports.control_vector import export_control_vector
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.models.tokens import Role
from personaprobe.site import Site


def axis(layer: int = 2) -> Direction:
    return Direction(Site(layer), torch.randn(8), "test", {k: Calibration(0.5, 1.0 + k) for k in range(4)})


def test_a_control_vector_adds_what_steering_adds(tmp_path: Path) -> None:
    from gguf import GGUFReader

    steer = Steer(axis(), -0.5, layers=(1, 3))
    export_control_vector(steer, 4, tmp_path / "v.gguf")
    written = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(tmp_path / "v.gguf").tensors}
    assert set(written) == {"direction.1", "direction.3"}
    roles = torch.full((1, 1), int(Role.RESPONSE))
    for site, edit in steer.edits(4).items():
        added = edit(torch.zeros(1, 1, 8), roles)[0, 0].numpy()
        assert written[f"direction.{site.layer}"] == pytest.approx(added, abs=1e-6)


def test_layer_zero_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="layer 1 and later"):
        export_control_vector(Steer(axis(), layers="all"), 4, tmp_path / "v.gguf")
    assert not list(tmp_path.iterdir())


def test_the_export_is_a_public_name() -> None:
    assert pp.export_control_vector is export_control_vector
