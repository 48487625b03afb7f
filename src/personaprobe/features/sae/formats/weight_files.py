"""Files of weights and configurations, and errors that name the folder they belong to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from personaprobe.errors import FeatureError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


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
        FeatureError: no such file, or not a JSON object.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise FeatureError(f"{path} is missing; the folder was not saved whole") from error
    except (ValueError, TypeError) as error:
        raise FeatureError(f"{path} is not a JSON object ({error})") from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, as float32.

    Raises:
        FeatureError: not a safetensors file, or truncated.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise FeatureError(
            f"{path} cannot be read: {error}; it is truncated or no safetensors file"
        ) from error


def read_pickled_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a PyTorch pickle, as float32, without running any code in it.

    Raises:
        FeatureError: the pickle holds more than tensors, is truncated, or holds no dictionary of tensors.
    """
    import pickle

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FeatureError(
            f"{path} holds more than tensors, and loading it could run code: refused"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise FeatureError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise FeatureError(f"{path} holds a {type(content).__name__}, expected tensors by name")
    return {name: tensor.float() for name, tensor in content.items() if isinstance(tensor, torch.Tensor)}
