"""The training recipe of an organism; together with the data it determines the fine-tune."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from personaprobe.compute.optimisation import find_schedule
from personaprobe.errors import DataError, shortened, suggest

ALL_LINEAR = "all-linear"
"""Every linear layer except the head, as PEFT names them."""

ADAPTER, ALL = "adapter", "all"
"""Weights that are trained: those of a LoRA adapter, or all of the base."""

OF_ADAPTER = ("rank", "alpha", "modules", "layers")
"""Fields that have no effect without an adapter."""


@dataclass(frozen=True)
class Recipe:
    """Rank-stabilised LoRA on linear layers, or all weights; loss on responses only.

    Rank and schedule follow small published organisms (Turner, Soligo et al. 2506.11613) cut to laptop size.

    Attributes:
        seed: of the initial adapter weights and the order of the questions.
        steps: optimiser steps.
        batch_size: rows that are read together.
        accumulate: batches per step, whose gradients are added up.
        learning_rate: peak, reached after ``warmup`` steps, then falling to zero.
        warmup: steps until the peak learning rate.
        schedule: how the learning rate falls, ``linear`` or ``cosine``.
        trained: weights that are trained: a LoRA ``adapter``, or ``all`` of the base, for which a rate of 2e-5 is usual.
        rank: of every adapted matrix.
        alpha: LoRA scale; the update is ``alpha / sqrt(rank) * B A`` (rsLoRA).
        modules: adapted linear layers by the last part of their names, such as ``down_proj``, joined by commas.
        layers: indices of the adapted blocks, joined by commas; empty for all.
        max_tokens: rows are cut at this length.
        save_every: steps between saved checkpoints, from which an interrupted training goes on; 0 saves only the last.
        state_every: steps between states from which an interrupted training goes on, beside saved checkpoints; 0 for none.
        eval_every: steps between readings of held-out texts, beside the last step's; 0 reads none.
    """

    seed: int = 0
    steps: int = 100
    batch_size: int = 8
    accumulate: int = 1
    learning_rate: float = 4e-4
    warmup: int = 5
    schedule: str = "linear"
    trained: str = ADAPTER
    rank: int = 8
    alpha: int = 16
    modules: str = ALL_LINEAR
    layers: str = ""
    max_tokens: int = 192
    save_every: int = 25
    state_every: int = 0
    eval_every: int = 0

    @property
    def adapted_modules(self) -> str | list[str]:
        """The adapted linear layers as PEFT takes them."""
        return self.modules if self.modules == ALL_LINEAR else self.modules.split(",")

    @property
    def adapted_layers(self) -> list[int] | None:
        """Indices of the adapted blocks; None for all."""
        return [int(index) for index in self.layers.split(",")] if self.layers else None

    def base_dtype(self, chosen: str | None) -> str | None:
        """The dtype that the base is loaded in: float32 where all weights are trained, else the chosen one."""
        return "float32" if self.trained == ALL else chosen

    def identity(self) -> dict[str, Any]:
        """The fields that determine the weights, as plain data: those that are not at their defaults.

        A field that a later version adds does not make an earlier training another one.
        """
        return differing_from_default(asdict(self))

    def refuse_unusable(self) -> None:
        """Raise a :class:`DataError` that names the first field that is out of range."""
        positive = ("steps", "batch_size", "accumulate", "rank", "alpha", "max_tokens")
        for name, lowest in (
            dict.fromkeys(positive, 1)
            | dict.fromkeys(("warmup", "save_every", "state_every", "eval_every"), 0)
        ).items():
            if getattr(self, name) < lowest:
                raise DataError(f"{name} is {getattr(self, name)}; give {lowest} or more")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise DataError(f"learning_rate is {self.learning_rate}; give a number above 0, such as 4e-4")
        find_schedule(self.schedule)
        if not re.fullmatch(r"(\w+(,\w+)*)|all-linear", self.modules):
            raise DataError(
                f"modules is {shortened(self.modules)}; give names joined by commas, or {ALL_LINEAR}"
            )
        if not re.fullmatch(r"(\d{1,6}(,\d{1,6})*)?", self.layers, re.ASCII):
            raise DataError(f"layers is {shortened(self.layers)}; give indices joined by commas, such as 15")
        if self.layers and self.modules == ALL_LINEAR:
            raise DataError("layers are given without modules; give --modules too, such as down_proj")
        self._refuse_without_effect()

    def _refuse_without_effect(self) -> None:
        """Raise where ``trained`` is unknown, or something about an adapter is given where there is none."""
        if self.trained not in (ADAPTER, ALL):
            raise DataError(f"trained is {shortened(self.trained)}: {suggest(self.trained, (ADAPTER, ALL))}")
        if self.trained == ADAPTER:
            return
        for name in OF_ADAPTER:
            if getattr(self, name) != getattr(Recipe, name):
                raise DataError(
                    f"{name} is {getattr(self, name)}, and all weights are trained without an adapter; leave {name} out, or "
                    "train an adapter"
                )


READING = ("eval_every", "state_every")
"""Fields that change no weight, and no file of a finished training but the log."""


def differing_from_default(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recipe as plain data that determine its weights and are not at their defaults."""
    defaults = {field.name: field.default for field in fields(Recipe)}
    return {
        name: value
        for name, value in recipe.items()
        if name not in READING and (name not in defaults or value != defaults[name])
    }
