"""Which modules of a base an adapter acts on, and the values that its configuration gives them, by PEFT's rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from personaprobe.errors import CheckpointError

T = TypeVar("T")

ALL_LINEAR = "all-linear"
"""Every linear map but the head, in any spelling of upper and lower case."""


@dataclass(frozen=True)
class PerModule(Generic[T]):
    """A value by module: a default, and others for modules whose name ends in a pattern.

    Attributes:
        default: of modules that match no pattern.
        patterns: regular expressions of the end of a name, from a dot or the beginning; the first that matches counts.
    """

    default: T
    patterns: Mapping[str, T] = field(default_factory=dict)

    def at(self, *names: str) -> T:
        """The value of a module, by the names that it goes by; the first name that matches a pattern counts."""
        for name in names:
            for pattern, value in self.patterns.items():
                if re.match(rf"(.*\.)?({pattern})$", name):
                    return value
        return self.default


@dataclass(frozen=True)
class AdaptedModules:
    """The fields that select modules of a base.

    Attributes:
        targets: ends of names, or one regular expression of whole names, or ``all-linear``.
        excluded: the same, of modules that are left out.
        layers: indices of the only layers that are adapted; None for all.
        layer_patterns: names of the lists of layers; empty for any.
    """

    targets: str | tuple[str, ...]
    excluded: str | tuple[str, ...] = ()
    layers: tuple[int, ...] | None = None
    layer_patterns: tuple[str, ...] = ()

    @classmethod
    def of(cls, path: Path, values: Mapping[str, Any]) -> AdaptedModules:
        """Read the selecting fields of a configuration.

        Raises:
            CheckpointError: names the field that is missing, of another type, or in conflict with another.
        """
        targets = _names(path, values, "target_modules")
        if not targets:
            raise CheckpointError(
                f"{path}: target_modules is {'empty' if 'target_modules' in values else 'missing'}; name the modules that "
                "the adapter changes, such as q_proj, since PEFT would choose some by the base's architecture"
            )
        layers, patterns = _layers(path, values), _names(path, values, "layers_pattern")
        if isinstance(targets, str) and (layers is not None or values.get("layers_pattern") is not None):
            raise CheckpointError(
                f"{path}: layers_to_transform and layers_pattern need a list of target_modules, and it is one pattern; "
                "put the layers into the pattern"
            )
        if patterns and layers is None:
            raise CheckpointError(f"{path}: layers_pattern is set without layers_to_transform; set both")
        of_layers = (patterns,) if isinstance(patterns, str) else patterns
        for pattern in of_layers:
            _compiled(path, "layers_pattern", pattern)
        return cls(targets, _names(path, values, "exclude_modules"), layers or None, of_layers)

    @property
    def all_linear(self) -> bool:
        """Whether every linear map but the head is adapted."""
        return isinstance(self.targets, str) and self.targets.lower() == ALL_LINEAR

    def select(self, name: str, *, is_head: bool = False) -> bool:
        """Whether a linear map of the base is adapted.

        Args:
            name: of the module in the base.
            is_head: whether it is the base's output embedding.
        """
        if _matches(self.excluded, name):
            return False
        if self.all_linear:
            return not is_head
        if not isinstance(self.targets, str) and name in self.targets:  # a whole name counts in any layer
            return True
        return _matches(self.targets, name) and (self.layers is None or self._layer_of(name) in self.layers)

    def _layer_of(self, name: str) -> int | None:
        """Index of a module's layer: the first number in its name, or the first behind the name of a list of layers."""
        spellings = [rf"(?:^|.*?\.){pattern}\.(?P<layer>\d+)\." for pattern in self.layer_patterns]
        for spelling in spellings or [r".*?\.[^.]*\.(?P<layer>\d+)\."]:
            if match := re.match(spelling, name):
                return int(match["layer"])
        return None


def _matches(chosen: str | tuple[str, ...], name: str) -> bool:
    if isinstance(chosen, str):
        return re.fullmatch(chosen, name) is not None
    return any(name == end or name.endswith(f".{end}") for end in chosen)


def _names(path: Path, values: Mapping[str, Any], field_name: str) -> str | tuple[str, ...]:
    """A list of names, or one regular expression; an empty tuple where the field is not set."""
    value = values.get(field_name)
    if not value and (value is None or isinstance(value, str | list)):
        return ()
    if isinstance(value, str):
        return _compiled(path, field_name, value)
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise CheckpointError(
        f"{path}: {field_name} is {repr(value)[:80]}; it is a list of names or one regular expression"
    )


def _compiled(path: Path, field_name: str, pattern: str) -> str:
    """The pattern, which is a regular expression."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise CheckpointError(
            f"{path}: {field_name} is {pattern[:80]!r}, which is no regular expression ({error}); correct it"
        ) from error
    return pattern


def _layers(path: Path, values: Mapping[str, Any]) -> tuple[int, ...] | None:
    value = values.get("layers_to_transform")
    if value is None:
        return None
    layers = value if isinstance(value, list) else [value]
    if any(isinstance(layer, bool) or not isinstance(layer, int) for layer in layers):
        raise CheckpointError(
            f"{path}: layers_to_transform is {repr(value)[:80]}; it holds numbers of layers"
        )
    return tuple(layers)
