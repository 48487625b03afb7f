"""Files of weights and configurations, and errors that name the folder they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from personaprobe.errors import FeatureError
from personaprobe.storage.readers.json_files import read_json_object
from personaprobe.storage.readers.tensor_files import read_safetensors, read_torch

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

SAVED_WHOLE = "the folder was not saved whole: copy or save it again"

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


def read_config_file(path: Path) -> dict[str, Any]:
    """Read the configuration of a dictionary, a JSON object.

    Raises:
        FeatureError: no such file, not a JSON object, or one that names a key twice.
    """
    return read_json_object(path, FeatureError, advice=SAVED_WHOLE, nonfinite=True)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, or of a torch file without running any code in it, as float32.

    Raises:
        FeatureError: another kind of file, a damaged one, or one that holds more than tensors.
    """
    if path.suffix == ".safetensors":
        return _as_float32(path, read_safetensors(path, FeatureError, advice=SAVED_WHOLE).tensors)
    content = read_torch(path, FeatureError, advice=SAVED_WHOLE)
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
