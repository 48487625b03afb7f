"""Types of option values that several verbs read: layers, and lists of numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from personaprobe.errors import shortened

if TYPE_CHECKING:
    from personaprobe.effects.interventions.along_direction import Layers


MOST_LAYERS = 10_000
"""Layers are below it; a range is written out only after this check."""


class LayersType(click.ParamType[Any]):
    """A choice of layers: ``all``, ``16``, ``8-20``, ``8,10,12``, or a mixture of the last three."""

    name = "layers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Layers:
        """Parse the text into ``"all"`` or layer indices without repetitions."""
        if value == "all":
            return "all"
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]  # a default, already layers
        layers: list[int] = []
        for part in value.split(","):
            match = re.fullmatch(r"\s*([0-9]{1,6})(?:-([0-9]{1,6}))?\s*", part)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if first > last:
                self.fail(
                    f"cannot read layers {shortened(value)}: write all, 16, 8-20 or 8,10,12", param, ctx
                )
            if last >= MOST_LAYERS:
                self.fail(
                    f"layer {last}: no model has {MOST_LAYERS} layers; write all, 16 or 8-20", param, ctx
                )
            layers += range(first, last + 1)
        return tuple(dict.fromkeys(layers))


class DosesType(click.ParamType[Any]):
    """Numbers separated by commas, such as ``0.5,1,1.5``."""

    name = "doses"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Parse the text into numbers without repetitions; the sweep checks their range."""
        if not isinstance(value, str):
            return tuple(value)
        try:
            return tuple(dict.fromkeys(float(part) for part in value.split(",")))
        except ValueError:
            self.fail(
                f"cannot read doses {shortened(value)}: write numbers with commas, such as 0.5,1,1.5",
                param,
                ctx,
            )
