"""Files of weights and configurations, and errors that name the folder they belong to."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from personaprobe.errors import FeatureError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

DECODER_BIASES = ("b_dec", "bias", "decoder_bias")
"""Names of the decoder's bias in the formats that are read."""


def refuse_missing_keys(folder: Path, build: Callable[[], T]) -> T:
    """Build a value from a folder's files; a missing key becomes an error that names the folder.

    Raises:
        FeatureError: a weight or an option is missing.
    """
    try:
        return build()
    except KeyError as error:
        raise FeatureError(f"{folder} lacks {error.args[0]!r}; it was not saved whole") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FeatureError: no such file, not a JSON object, or one that names a key twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            raise ValueError("a key stands there twice")
        return content

    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}")
    except FileNotFoundError as error:
        raise FeatureError(f"{path} is missing; the folder was not saved whole") from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise FeatureError(f"{path} is not a JSON object ({_reason(error)})") from error
    return content


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, as float32.

    Raises:
        FeatureError: not a safetensors file, or truncated.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError, LookupError, TypeError) as error:
        raise FeatureError(
            f"{path} cannot be read: {_reason(error)}; it is truncated or no safetensors file"
        ) from error
    return _as_float32(path, tensors)


def read_pickled_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a PyTorch pickle, as float32, without running any code in it.

    Raises:
        FeatureError: the pickle holds more than tensors, is truncated, or holds no dictionary of tensors.
    """
    import pickle

    import torch

    try:
        with warnings.catch_warnings(action="ignore"):  # about the protocol of a pickle that is refused
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FeatureError(
            f"{path} holds more than tensors, and loading it could run code: refused"
        ) from error
    except (
        Exception
    ) as error:  # a damaged pickle can raise anything, such as IndexError or UnicodeDecodeError
        raise FeatureError(
            f"{path} cannot be read: {_reason(error)}; it is damaged or no file of PyTorch"
        ) from error
    if not isinstance(content, dict):
        raise FeatureError(f"{path} holds a {type(content).__name__}, expected tensors by name")
    return _as_float32(path, content)


def matrix(folder: Path, weights: Mapping[str, Tensor], name: str) -> Tensor:
    """A weight of two dimensions.

    Raises:
        KeyError: it is missing.
        FeatureError: it has another number of dimensions, or is empty.
    """
    weight = weights[name]
    if weight.ndim != 2 or not weight.numel():
        raise FeatureError(
            f"{folder}: {name} has shape {tuple(weight.shape)}, expected a matrix that is not empty"
        )
    return weight


def refuse_other_shapes(folder: Path, W_enc: Tensor, weights: Mapping[str, Tensor]) -> None:
    """Raise for a weight whose shape does not fit the encoder.

    Args:
        folder: of the dictionary, for errors.
        W_enc: ``(d_model, d_sae)``.
        weights: ``W_dec`` and the decoder's bias by the names that formats give them, and vectors of one number a latent.

    Raises:
        FeatureError: names the first that does not fit.
    """
    d_model, d_sae = W_enc.shape
    shapes = {"W_dec": (d_sae, d_model), **dict.fromkeys(DECODER_BIASES, (d_model,))}
    for name, weight in weights.items():
        expected = shapes.get(name, (d_sae,))
        if tuple(weight.shape) != expected:
            raise FeatureError(
                f"{folder}: {name} has shape {tuple(weight.shape)}, but W_enc {(d_model, d_sae)} asks for {expected}"
            )


def one_threshold(folder: Path, threshold: Tensor, b_enc: Tensor) -> Tensor:
    """The one threshold of a BatchTopK for every latent.

    Raises:
        FeatureError: it is not one number above or at 0: the dictionary was saved before one was set.
    """
    if threshold.numel() != 1 or not float(threshold) >= 0:
        raise FeatureError(f"{folder} is a BatchTopK without a threshold: it was saved before one was set")
    return threshold.reshape(()).expand(b_enc.shape)


def _as_float32(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors as float32, all of them finite; what float32 cannot hold is refused, not made infinite."""
    import torch

    tensors = {}
    for name, tensor in content.items():
        if not isinstance(tensor, torch.Tensor) or tensor.is_complex() or tensor.dtype == torch.bool:
            kind = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise FeatureError(f"{path}: {name} is of {kind}; expected a tensor of numbers")
        tensors[str(name)] = tensor.to_dense().float()
        if not bool(tensors[str(name)].isfinite().all()):
            raise FeatureError(
                f"{path}: {name} holds NaN or infinite numbers in float32; it was not saved whole, or diverged"
            )
    return tensors


def _reason(error: Exception) -> str:
    """The message of an error in one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
