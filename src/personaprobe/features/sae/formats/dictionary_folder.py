"""Dictionaries from folders of any format that is understood, recognised by the name of the weight file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from personaprobe.errors import FeatureError
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.formats import dictionary_learning, saelens, sparsify
from personaprobe.storage.paths import user_path

_READERS: dict[str, Callable[[Path], Dictionary]] = {
    saelens.WEIGHTS: saelens.read_folder,
    dictionary_learning.WEIGHTS: dictionary_learning.read_folder,
    sparsify.WEIGHTS: sparsify.read_folder,
}
"""Readers by the weight file of their format."""


def load_dictionary(folder: str | Path) -> Dictionary:
    """Load a dictionary from a folder of SAELens, dictionary_learning or sparsify.

    Weights are float32 in memory, whatever their dtype on disk. Pickles are read as tensors only.

    Raises:
        FeatureError: no such folder, an unknown architecture, missing or truncated weights, shapes that do not fit,
            NaN weights, a pickle that holds more than tensors, or a hook point that is no site.
    """
    folder = user_path(folder, FeatureError)
    for weight_file, read_folder in _READERS.items():
        if (folder / weight_file).is_file():
            return read_folder(folder)
    raise FeatureError(
        f"{folder} holds no dictionary: expected {saelens.WEIGHTS} (SAELens), {dictionary_learning.WEIGHTS} "
        f"(dictionary_learning) or {sparsify.WEIGHTS} (sparsify) in it"
    )
