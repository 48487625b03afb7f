"""Architectures by name: the built-in ones, and those that other packages add.

Another package adds an architecture by a call of :func:`register_architecture`, or by an entry point of the group
``personaprobe.architectures``, which is imported only when its architecture is used::

    [project.entry-points."personaprobe.architectures"]
    annealed = "my_package.architectures:AnnealedArchitecture"
"""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any

from personaprobe.errors import FeatureError
from personaprobe.features.sae.training.architectures.architecture import Architecture
from personaprobe.features.sae.training.architectures.batchtopk import BatchTopKArchitecture
from personaprobe.features.sae.training.architectures.crosscoder import CrosscoderArchitecture
from personaprobe.features.sae.training.architectures.jumprelu import JumpReLUArchitecture
from personaprobe.features.sae.training.architectures.matryoshka import MatryoshkaArchitecture
from personaprobe.features.sae.training.architectures.relu import ReLUArchitecture
from personaprobe.features.sae.training.architectures.topk import TopKArchitecture
from personaprobe.plugins import Registry

ARCHITECTURES: Registry[type[Architecture]] = Registry(
    "architecture",
    "personaprobe.architectures",
    {
        kind.name: kind
        for kind in (
            TopKArchitecture,
            BatchTopKArchitecture,
            MatryoshkaArchitecture,
            CrosscoderArchitecture,
            ReLUArchitecture,
            JumpReLUArchitecture,
        )
    },
    FeatureError,
)


def register_architecture(kind: type[Architecture]) -> type[Architecture]:
    """Make an architecture known by its ``name`` to :func:`find_architecture` and ``personaprobe sae train``.

    Can be used as a class decorator, above ``@dataclass(frozen=True)``.

    Args:
        kind: a frozen dataclass derived from :class:`Architecture`, with a ``name``.

    Raises:
        FeatureError: no such class, no name, or another architecture has the name.
    """
    _refuse_unusable(kind)
    ARCHITECTURES.register(kind.name, kind)
    return kind


def architecture_names() -> tuple[str, ...]:
    """Names of all architectures: built-in, registered, and of installed entry points."""
    return tuple(ARCHITECTURES)


def architecture_class(name: str) -> type[Architecture]:
    """The class of an architecture.

    Raises:
        FeatureError: no architecture of that name, or an entry point that cannot be imported.
    """
    kind = ARCHITECTURES.find(name)
    _refuse_unusable(kind)
    return kind


def find_architecture(name: str, **options: Any) -> Architecture:
    """An architecture by name, with its options.

    Raises:
        FeatureError: no architecture of that name, or an option it does not have.
    """
    kind = architecture_class(name)
    try:
        return kind(**options)
    except TypeError as error:
        raise FeatureError(f"{name} takes no such option: {error}") from error


def _refuse_unusable(kind: Any) -> None:
    fits = isinstance(kind, type) and issubclass(kind, Architecture) and is_dataclass(kind)
    if not (fits and isinstance(getattr(kind, "name", None), str) and kind.name):
        raise FeatureError(
            f"{kind!r} cannot be registered as an architecture; give a frozen dataclass derived from Architecture, "
            "with a class variable `name`"
        )
