"""Files of directions: what is read is a unit vector with finite marks, or it is refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from personaprobe.errors import FeatureError
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.site import Site

DESCRIPTION: dict[str, Any] = {
    "format": "personaprobe-direction-1",
    "site": "3.mlp_out",
    "source": "means",
    "marks": {"1": [0.5, 0], "3": [-1.5, 0.25]},
    "hook_name": "blocks.3.hook_mlp_out",
    "d_model": 4,
}

VECTOR = torch.full((4,), 0.5)


def written(path: Path, description: Any, tensor: Tensor = VECTOR) -> Path:
    text = description if isinstance(description, str) else json.dumps(description)
    save_file({"direction": tensor}, path, metadata={"personaprobe": text})
    return path


def test_a_file_that_is_right_is_read(tmp_path: Path) -> None:
    direction = Direction.load(written(tmp_path / "d.safetensors", DESCRIPTION))
    assert (direction.site, direction.source) == (Site(3, "mlp_out"), "means")
    assert direction.calibrations == {1: Calibration(0.5, 0.0), 3: Calibration(-1.5, 0.25)}
    rounded = written(tmp_path / "r.safetensors", DESCRIPTION, VECTOR.bfloat16())
    assert float(Direction.load(rounded).vector.norm()) == pytest.approx(1)


WRONG: dict[str, dict[str, Any]] = {
    **{f"format {value!r}": {"format": value} for value in (None, 1, "", "personaprobe-direction-2", ["x"])},
    **{f"site {value!r}": {"site": value} for value in (None, 3, "", "3", "3.resid", "-1.resid_post", [3])},
    **{f"source {value!r}": {"source": value} for value in (None, 3, ["means"])},
    **{f"marks {value!r}": {"marks": value} for value in (None, 5, [], "text", [[0, 1]])},
    **{
        f"a mark of {value!r}": {"marks": {"3": value}}
        for value in (
            *(None, 0, True, "text", [], [1.0], [1.0, 2.0, 3.0], {"0": 1, "1": 2}),
            *([True, 1.0], [0.0, True], [0.0, "1"], [None, 1.0], [[0.0], 1.0]),
            *([float("nan"), 1.0], [0.0, float("nan")], [float("inf"), 1.0], [0.0, -float("inf")]),
        )
    },
    "a gap of 0 at its own layer": {"marks": {"3": [1.0, 0]}},
    **{
        f"layer {layer!r}": {"marks": {layer: [0.0, 1.0]}}
        for layer in ("", "-1", " 3", "03", "3.0", "x", "9" * 5000)
    },
    "another hook": {"hook_name": "blocks.4.hook_mlp_out"},
    "another width": {"d_model": 5},
    "a width that is true": {"d_model": "4"},
    "an unknown key": {"scale": 2.0},
}


@pytest.mark.parametrize("case", WRONG)
def test_a_description_that_no_direction_has_is_refused(case: str, tmp_path: Path) -> None:
    path = written(tmp_path / "d.safetensors", {**DESCRIPTION, **WRONG[case]})
    with pytest.raises(
        FeatureError, match=r"d\.safetensors is not a direction this version reads"
    ) as refusal:
        Direction.load(path)
    assert len(str(refusal.value)) < 500
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("missing", ["format", "site", "source", "marks"])
def test_a_description_without_a_key_is_refused(missing: str, tmp_path: Path) -> None:
    described = {key: value for key, value in DESCRIPTION.items() if key != missing}
    with pytest.raises(FeatureError, match="not a direction this version reads"):
        Direction.load(written(tmp_path / "d.safetensors", described))


@pytest.mark.parametrize("text", ["", "null", "[1]", "3", "{", "[" * 100_000])
def test_metadata_that_is_no_object_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match=r"d\.safetensors"):
        Direction.load(written(tmp_path / "d.safetensors", text))


VECTORS: dict[str, Tensor] = {
    "NaN": torch.tensor([1.0, torch.nan]),
    "infinite": torch.tensor([torch.inf, 1.0]),
    "float64 beyond float32": torch.tensor([1e300, 1.0], dtype=torch.float64),
    "all zero": torch.zeros(4),
    "empty": torch.empty(0),
    "a matrix": VECTOR.reshape(2, 2),
    "a number": torch.tensor(1.0),
    "whole numbers": torch.tensor([1, 0, 0, 0]),
    "truth values": torch.tensor([True, False]),
    "another norm": 2 * VECTOR,
}


@pytest.mark.parametrize("case", VECTORS)
def test_a_tensor_that_is_no_unit_vector_is_refused(case: str, tmp_path: Path) -> None:
    described = {**DESCRIPTION, "d_model": VECTORS[case].numel()}
    with pytest.raises(FeatureError, match=r"d\.safetensors: the direction"):
        Direction.load(written(tmp_path / "d.safetensors", described, VECTORS[case]))


@pytest.mark.parametrize("place", [".", "d" * 300])
def test_a_path_that_is_no_file_is_refused(place: str, tmp_path: Path) -> None:
    with pytest.raises(FeatureError):
        Direction.load(tmp_path / place)


def test_nothing_is_read_along_an_axis_without_a_gap() -> None:
    direction = Direction(Site(3), VECTOR, "means", {1: Calibration(0.5, 0.0), 3: Calibration(0.0, 1.0)})
    with pytest.raises(FeatureError, match="at layer 1"):
        direction.read(torch.ones(2, 4), layer=1)
