"""Fields of foreign data: each is read with its type and range, and a field that no one reads is refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, TypeVar, get_args, get_type_hints

from personaprobe.errors import one_line, shortened, suggest
from personaprobe.storage.readers.opening import ErrorClass

Kind = TypeVar("Kind")

_REQUIRED: Any = object()
"""The default of a field that must be there."""


@dataclass(frozen=True)
class Fields:
    """The fields of one object of a JSON, TOML or YAML file.

    A value of another type is refused, never converted: true is no number, 3.0 no integer, and 4 no text.

    Attributes:
        content: the object.
        place: the file, with line or entry, for error messages.
        error: the class to raise.
    """

    content: Mapping[str, Any]
    place: str
    error: ErrorClass

    @classmethod
    def of(cls, value: Any, place: object, error: ErrorClass) -> Fields:
        """The fields of a value.

        Raises:
            PersonaProbeError: of the class ``error``: the value is no object with text for keys.
        """
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise error(f"{one_line(place)} is {shortened(value)}; give fields with names")
        return cls(value, one_line(place), error)

    def __contains__(self, name: str) -> bool:
        return name in self.content

    def __iter__(self) -> Iterator[str]:
        return iter(self.content)

    def text(self, name: str, default: str | None = _REQUIRED, *, empty: bool = False) -> Any:
        """Text; blank text is refused unless ``empty``."""
        expected = "text" if empty else "text that is not blank"
        return self._checked(
            name, default, lambda value: isinstance(value, str) and (empty or bool(value.strip())), expected
        )

    def integer(
        self, name: str, default: int | None = _REQUIRED, *, lowest: int = 0, highest: int = 2**31 - 1
    ) -> Any:
        """A whole number in a range."""
        return self._checked(
            name,
            default,
            lambda value: (
                isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest
            ),
            f"a whole number from {lowest} to {highest}",
        )

    def number(
        self,
        name: str,
        default: float | None = _REQUIRED,
        *,
        lowest: float = -math.inf,
        highest: float = math.inf,
    ) -> Any:
        """A finite number in a range."""
        bounds = [f"of at least {lowest:g}"] if lowest > -math.inf else []
        bounds += [f"of at most {highest:g}"] if highest < math.inf else []
        expected = " and ".join(["a finite number", *bounds])
        value = self._checked(
            name, default, lambda value: _is_number(value) and lowest <= value <= highest, expected
        )
        return value if value is None else float(value)

    def flag(self, name: str, default: bool | None = _REQUIRED) -> Any:
        """True or false."""
        return self._checked(name, default, lambda value: isinstance(value, bool), "true or false")

    def texts(self, name: str, default: Sequence[str] | None = _REQUIRED) -> Any:
        """A list of texts that are not blank, as a tuple."""
        value = self._checked(
            name,
            default,
            lambda value: (
                isinstance(value, list) and all(isinstance(item, str) and item.strip() for item in value)
            ),
            "a list of texts",
        )
        return value if value is None else tuple(value)

    def integers(
        self, name: str, default: Sequence[int] | None = _REQUIRED, *, highest: int = 2**31 - 1
    ) -> Any:
        """A list of one or more whole numbers from 0, as a tuple."""
        value = self._checked(
            name,
            default,
            lambda value: (
                isinstance(value, list) and bool(value) and all(_is_index(item, highest) for item in value)
            ),
            f"a list of whole numbers from 0 to {highest}",
        )
        return value if value is None else tuple(value)

    def fields(self, name: str, default: Mapping[str, Any] | None = _REQUIRED) -> Any:
        """The fields of an object inside this one."""
        value = self._checked(name, default, lambda value: isinstance(value, Mapping), "fields with names")
        return value if value is None else Fields.of(value, f"{self.place}, {name}", self.error)

    def as_dataclass(self, kind: type[Kind]) -> Kind:
        """A dataclass of numbers, texts and flags, whose fields these are; its defaults stand for those left out.

        Raises:
            PersonaProbeError: of the class ``error``: a field is missing, unknown or of another type.
        """
        hints = get_type_hints(kind)
        self.refuse_unknown(list(hints))
        values: dict[str, Any] = {}
        for field in dataclass_fields(kind):  # type: ignore[arg-type]  # a dataclass
            if field.name in self.content:
                values[field.name] = self._as(hints[field.name], field.name)
            elif field.default is MISSING and field.default_factory is MISSING:
                raise self.error(f"{self.place} lacks {field.name}")
        return kind(**values)

    def _as(self, hint: Any, name: str) -> Any:
        allowed = get_args(hint) or (hint,)
        if float in allowed:
            return self.number(name)
        if int in allowed:
            return self.integer(name, lowest=-(2**31))
        return self.flag(name) if bool in allowed else self.text(name, empty=True)

    def refuse_unknown(self, known: Collection[str], advice: str = "") -> None:
        """Raise where there is a field that is not known.

        Raises:
            PersonaProbeError: of the class ``error``; names the nearest known one.
        """
        for name in self.content:
            if name not in known:
                then = f"; {advice}" if advice else ""
                raise self.error(
                    f"{self.place} has the field {shortened(name)}, which is not understood: {suggest(name, known)}{then}"
                )

    def wrong(self, name: str, expected: str) -> Exception:
        """The error for a field that is missing or of another kind."""
        if name not in self.content:
            return self.error(f"{self.place} lacks {name!r}; give {expected}")
        return self.error(f"{self.place}: {name} is {shortened(self.content[name])}; give {expected}")

    def _checked(self, name: str, default: Any, is_right: Callable[[Any], bool], expected: str) -> Any:
        if name not in self.content and default is not _REQUIRED:
            return default
        if name not in self.content or not is_right(self.content[name]):
            raise self.wrong(name, expected)
        return self.content[name]


def _is_index(value: Any, highest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= highest


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
