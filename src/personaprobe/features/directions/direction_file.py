"""Files of directions: safetensors with the axis in their metadata, written whole and checked when they are read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.errors import FeatureError, one_line
from personaprobe.site import Site
from personaprobe.storage.files import write_atomically
from personaprobe.storage.paths import is_file
from personaprobe.storage.readers.json_files import parse_json
from personaprobe.storage.readers.tensor_files import read_safetensors

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

FORMAT = "personaprobe-direction-1"

CALIBRATIONS = "marks"
"""Key of the calibrations in the metadata: a reference and a gap by layer."""

KEYS = {"format", "site", "source", CALIBRATIONS, "hook_name", "d_model"}

ADVICE = "give a .safetensors file written by Direction.save; pickles (.pt, .bin, .pkl) can run code and are refused"

KIND = "a direction this version reads: its description is not JSON"

NORM_TOLERANCE = 0.01
"""How far from 1 the norm of a stored vector may be: one that was rounded to bfloat16 is within it."""


def write_direction(path: Path, vector: Float[Tensor, "d_model"], description: Mapping[str, Any]) -> None:
    """Write a vector with its description as metadata."""
    from safetensors.torch import save_file

    metadata = {"personaprobe": json.dumps(description, sort_keys=True)}
    write_atomically(path, lambda temporary: save_file({"direction": vector}, temporary, metadata=metadata))


def read_direction(path: Path) -> tuple[Float[Tensor, "d_model"], dict[str, Any]]:
    """Read a vector and its description: ``site``, ``source``, and ``calibrations``, pairs of numbers by layer.

    Raises:
        FeatureError: no such file, a pickle, truncated, of another format, or with a value that a direction cannot have.
    """
    vector, description = _read(path)
    try:
        _refuse_unknown(description)
        site = Site.parse(description["site"])
        if description.get("hook_name", site.to_transformer_lens()) != site.to_transformer_lens():
            raise ValueError(f"hook_name {description['hook_name']!r} is not its site {site}")
        if description.get("d_model", len(vector)) != len(vector):
            raise ValueError(
                f"d_model is {description['d_model']!r}, and the vector has {len(vector)} numbers"
            )
        pairs = {_layer(text): _pair(text, pair) for text, pair in description[CALIBRATIONS].items()}
        if site.layer in pairs and pairs[site.layer][1] == 0:
            raise ValueError(
                f"the gap at its own layer {site.layer} is 0, so that nothing can be read along it"
            )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FeatureError(
            f"{path} is not a direction this version reads ({reason}); save it again"
        ) from error
    return vector, {"site": site, "source": description["source"], "calibrations": pairs}


def _read(path: Path) -> tuple[Tensor, Any]:
    """The tensor and the metadata of a file; the tensor is a unit vector of finite numbers."""
    if not is_file(path):
        raise FeatureError(
            f"no direction file at {one_line(path)}; give a .safetensors file written by Direction.save"
        )
    tensors, metadata = read_safetensors(path, FeatureError, advice=ADVICE)
    if "direction" not in tensors or "personaprobe" not in metadata:
        raise FeatureError(f"{one_line(path)} is not a direction: it holds other tensors; {ADVICE}")
    vector = tensors["direction"]
    description = parse_json(
        metadata["personaprobe"], path, FeatureError, advice=ADVICE, nonfinite=True, kind=KIND
    )
    if vector.ndim != 1 or not vector.is_floating_point() or not bool(vector.float().isfinite().all()):
        raise FeatureError(
            f"{path}: the direction is {vector.dtype} of shape {tuple(vector.shape)}; expected one row of finite numbers"
        )
    norm = float(vector.double().norm())
    if abs(norm - 1) > NORM_TOLERANCE:
        raise FeatureError(
            f"{path}: the direction has norm {norm:.4g}, and its axis is that of a unit vector; save it again"
        )
    return vector, description


def _refuse_unknown(description: Any) -> None:
    """Raise for a description of another format, or with keys that are not understood."""
    if not isinstance(description, dict):
        raise TypeError(f"its metadata is a {type(description).__name__}")
    if description.get("format") != FORMAT:
        raise ValueError(f"its format is {str(description.get('format'))[:60]!r}, expected {FORMAT!r}")
    if set(description) - KEYS:
        raise ValueError(f"it holds {sorted(set(description) - KEYS)}, which is not understood")
    for key in ("site", "source"):
        if not isinstance(description[key], str):
            raise TypeError(f"{key} is {str(description[key])[:60]!r}, expected text")
    if not isinstance(description[CALIBRATIONS], dict):
        given = str(description[CALIBRATIONS])[:60]
        raise TypeError(f"{CALIBRATIONS} is {given!r}, expected pairs of numbers by layer")


def _layer(text: str) -> int:
    if re.fullmatch(r"0|[1-9][0-9]{0,3}", text) is None:
        raise ValueError(f"{text[:40]!r} is no layer")
    return int(text)


def _pair(layer: str, pair: Any) -> tuple[float, float]:
    """Reference and gap at a layer: two finite numbers."""
    is_pair = isinstance(pair, list) and len(pair) == 2
    if not is_pair or not all(type(number) in (int, float) and math.isfinite(number) for number in pair):
        raise ValueError(f"the calibration at layer {layer} is {str(pair)[:60]}, expected two finite numbers")
    return float(pair[0]), float(pair[1])
