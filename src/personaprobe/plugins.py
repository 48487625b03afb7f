"""Registries that other packages can add to, by a call or by an entry point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from personaprobe.errors import PersonaProbeError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Named values of one kind: built in, registered by a call, or offered by an installed package.

    An entry point is imported when its value is first looked up: listing the names imports nothing.

    Examples:
        >>> shapes = Registry("personaprobe.shapes", {"square": 4})
        >>> shapes.register("triangle", 3)
        >>> sorted(shapes), shapes["triangle"]
        (['square', 'triangle'], 3)
    """

    def __init__(self, group: str, builtin: Mapping[str, T]) -> None:
        """Start from the values that this package brings.

        Args:
            group: of the entry points that add to them, such as ``personaprobe.sources``.
            builtin: by name; none of them can be replaced.
        """
        self.group = group
        self._builtin = dict(builtin)
        self._registered: dict[str, T] = {}

    def register(self, name: str, value: T) -> None:
        """Add a value; an earlier registration of that name is replaced.

        Raises:
            PersonaProbeError: the name is built in.
        """
        if name in self._builtin:
            raise PersonaProbeError(f"{name!r} is built into {self.group}; choose another name")
        self._registered[name] = value

    def __getitem__(self, name: str) -> T:
        for known in (self._builtin, self._registered):
            if name in known:
                return known[name]
        value: T = self._entry_points()[name].load()
        self._registered[name] = value
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self._registered or name in self._entry_points()

    def __iter__(self) -> Iterator[str]:
        return iter({**self._builtin, **self._registered, **self._entry_points()})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _entry_points(self) -> dict[str, EntryPoint]:
        offered = {point.name: point for point in entry_points(group=self.group)}
        return {name: point for name, point in offered.items() if name not in self._builtin}
