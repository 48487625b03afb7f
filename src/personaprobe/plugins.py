"""Registries that other packages can add to, by a call or by an entry point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from personaprobe.errors import PersonaProbeError, suggest

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Named values of one kind: built in, registered by a call, or offered by an installed package.

    An entry point is imported when its value is first looked up: listing the names imports nothing.

    Examples:
        >>> shapes = Registry("shape", "personaprobe.shapes", {"square": 4})
        >>> shapes.register("triangle", 3)
        >>> sorted(shapes), shapes["triangle"]
        (['square', 'triangle'], 3)
    """

    def __init__(
        self,
        noun: str,
        group: str,
        builtin: Mapping[str, T],
        error: type[PersonaProbeError] = PersonaProbeError,
    ) -> None:
        """Start from the values that this package brings.

        Args:
            noun: what a value is called in errors, such as ``judge``.
            group: of the entry points that add to them, such as ``personaprobe.judges``.
            builtin: by name; none of them can be replaced.
            error: raised where a name is unknown or taken, or an entry point cannot be imported.
        """
        self.noun = noun
        self.group = group
        self.builtin = dict(builtin)
        self._error = error
        self._registered: dict[str, T] = {}

    def register(self, name: str, value: T) -> None:
        """Add a value. The same definition may be registered again, as when a notebook cell runs twice.

        Raises:
            PersonaProbeError: another value has the name.
        """
        if name in self.builtin or not _same_definition(self._registered.get(name, value), value):
            raise self._error(f"another {self.noun} is registered as {name!r}; choose another name")
        self._registered[name] = value

    def find(self, name: str) -> T:
        """Look a value up by the name that a user writes.

        Raises:
            PersonaProbeError: no such name, and the nearest; or the entry point cannot be imported.
        """
        if name not in self:
            raise self._error(f"no {self.noun} {name!r}: {suggest(name, self)}")
        return self[name]

    def __getitem__(self, name: str) -> T:
        for known in (self.builtin, self._registered):
            if name in known:
                return known[name]
        value: T = load_entry_point(self.noun, self._entry_points()[name], self._error)
        return value

    def __contains__(self, name: object) -> bool:
        # entry points are read last: finding them takes a while
        return name in self.builtin or name in self._registered or name in self._entry_points()

    def __iter__(self) -> Iterator[str]:
        yield from self.builtin
        yield from self._registered
        yield from (name for name in self._entry_points() if name not in self._registered)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _entry_points(self) -> dict[str, EntryPoint]:
        return {
            point.name: point for point in entry_points(group=self.group) if point.name not in self.builtin
        }


def load_entry_point(noun: str, point: EntryPoint, error: type[PersonaProbeError] = PersonaProbeError) -> Any:
    """Import the value that an installed package offers.

    Args:
        noun: what the value is called in the error.
        point: of any group.
        error: raised where the import fails, for whatever reason.
    """
    try:
        return point.load()
    except Exception as failure:  # whatever the other package raises concerns this value alone
        raise error(
            f"the {noun} {point.name!r} of {point.value} cannot be imported: {failure}; repair or uninstall that package"
        ) from failure


def _same_definition(first: Any, second: Any) -> bool:
    def place(value: Any) -> tuple[Any, ...]:
        return (getattr(value, "__module__", None), getattr(value, "__qualname__", None))

    return bool(first == second) or (None not in place(first) and place(first) == place(second))
