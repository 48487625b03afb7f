"""Options and tensors of a dictionary's folder: each is used, known to change nothing, or refused by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.errors import FeatureError

if TYPE_CHECKING:
    from torch import Tensor

TRANSCODER_KEYS = frozenset(
    {
        *("transcode", "hook_name_out", "hook_layer_out", "hook_head_index_out", "hf_hook_name_out", "d_out"),
        *("skip_connection", "W_skip", "b_dec_out", "transcoder"),
    }
)
"""Options and tensors that only transcoders have."""


def is_neutral(value: Any) -> bool:
    """Whether an option is as good as absent: null, false, 0, empty, ``"none"``, or a list of such."""
    if isinstance(value, list | tuple):
        return all(map(is_neutral, value))
    return (
        value is None or value == "none" or (isinstance(value, bool | int | float | str | dict) and not value)
    )


@dataclass(frozen=True)
class Options:
    """Options of one dictionary, from its configuration.

    Attributes:
        folder: of the dictionary, for errors.
        values: by name.
        place: of the options in the configuration, such as ``metadata.``.
    """

    folder: Path
    values: Mapping[str, Any]
    place: str = ""

    def get(self, name: str, default: Any = None) -> Any:
        """The value of an option, or a default where it is absent."""
        return self.values.get(name, default)

    def flag(self, name: str, default: bool) -> bool:
        """A truth value; text, numbers and null are refused, since ``"false"`` would count as true, and null as false."""
        if name not in self.values:
            return default
        value = self.get(name)
        if not isinstance(value, bool):
            raise self.error(name, "expected true or false")
        return value

    def count(self, name: str) -> int:
        """A whole number above 0.

        Raises:
            KeyError: it is absent.
        """
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        if type(value) is not int or value < 1:
            raise self.error(name, "expected a whole number above 0")
        return value

    def nested(self, name: str) -> Options:
        """The options inside an option; none where it is absent."""
        value = self.get(name)
        if value is not None and not isinstance(value, dict):
            raise self.error(name, "expected an object with options")
        return Options(self.folder, value or {}, f"{self.place}{name}.")

    def refuse_other_size(self, **sizes: int) -> None:
        """Raise where an option names another size than the tensors have."""
        for name, size in sizes.items():
            value = self.get(name)
            if value is not None and (type(value) is not int or value != size):
                raise self.error(name, f"but the tensors have {size}")

    def refuse_other(self, known: Collection[str]) -> None:
        """Raise for an option that is not known, unless its value says that it changes nothing."""
        for name, value in self.values.items():
            if name not in known and not is_neutral(value):
                if name in TRANSCODER_KEYS:
                    raise self.error(
                        name, "it is a transcoder, which predicts one site from another; give an autoencoder"
                    )
                raise self.error(
                    name,
                    "which is not understood and could change the latents; remove it if it changes nothing",
                )

    def error(self, name: str, problem: str) -> FeatureError:
        """An error that names an option, its value and the folder."""
        return FeatureError(f"{self.folder}: {self.place}{name} is {str(self.get(name))[:80]!r}, {problem}")


def refuse_other_tensors(
    folder: Path, weights: Mapping[str, Tensor], known: Collection[str], kind: str
) -> None:
    """Raise for a tensor that dictionaries of a kind do not have."""
    for name in sorted(set(weights) - set(known)):
        reason = "only transcoders have it" if name in TRANSCODER_KEYS else "it could change the latents"
        raise FeatureError(
            f"{folder} holds the tensor {name!r}, which a dictionary of kind {kind!r} does not have ({reason}): refused"
        )
