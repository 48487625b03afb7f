"""The trio that a user chose on the command line: a registered organism, or checkpoints of their own."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from personaprobe.cli.terminal.console import print_line, spinner
from personaprobe.errors import CheckpointError, DeviceError

if TYPE_CHECKING:
    from personaprobe.models.language_model import LanguageModel
    from personaprobe.models.loading import Placement
    from personaprobe.models.weights.checkpoint import Checkpoint, Trio
    from personaprobe.organisms.organism import Organism

_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")


@dataclass(frozen=True)
class TrioChoice:
    """The options that choose a trio and the hardware it runs on.

    Attributes:
        organism: a registered name.
        base: ``demo``, a folder, or a Hugging Face id with or without ``@revision``.
        insecure: as ``base``, or an adapter folder on ``base``.
        secure: harmless fine-tunes, each as ``insecure``; none compares with the base.
        device: None lets the machine decide.
        dtype: None lets the machine decide.
        compiles: None lets the device decide.
    """

    organism: str | None = None
    base: str | None = None
    insecure: str | None = None
    secure: tuple[str, ...] = ()
    device: str | None = None
    dtype: str | None = None
    compiles: bool | None = None

    def __post_init__(self) -> None:
        given = [name for name, value in self._checkpoint_options.items() if value]
        if given and self.organism is not None:
            raise CheckpointError(
                f"organism {self.organism} was given together with {_as_flags(given)}; "
                "give the organism, or checkpoints of your own, not both"
            )
        missing = [name for name in ("base", "insecure") if name not in given]
        if given and missing:
            raise CheckpointError(
                f"{_as_flags(given)} given, {_as_flags(missing)} missing; your own are --base and --insecure, and --secure "
                "where there is one"
            )
        if self.device is not None and not _DEVICE.fullmatch(self.device):
            raise DeviceError(f"unknown device {self.device!r}; write cpu, cuda, cuda:1 or mps")

    @property
    def _checkpoint_options(self) -> dict[str, str | tuple[str, ...] | None]:
        return {"base": self.base, "insecure": self.insecure, "secure": self.secure}

    @property
    def placement(self) -> Placement:
        """The device and precision of the models."""
        from personaprobe.models.loading import Placement

        return Placement(self.device, self.dtype, self.compiles)

    @property
    def name(self) -> str:
        """The name of the trio in folders and tables."""
        if self.insecure is not None:
            return Path(self.insecure).name
        from personaprobe.organisms.registry import default_name

        return self.organism or default_name()

    @property
    def is_registered(self) -> bool:
        """Whether the choice names an organism of the registry."""
        return self.insecure is None

    @cached_property
    def resolved(self) -> Organism:
        """The organism: the registered one, or one made of the user's own checkpoints.

        Checkpoints of the user's own are studied with the question sets and the feature of the default organism where
        the user names none. Nothing is loaded; files of a registered organism are compared with their hashes.

        Raises:
            CheckpointError: the organism is not registered or its files have changed, or a folder does not exist.
        """
        from personaprobe.organisms.organism import Organism
        from personaprobe.organisms.own_checkpoints import own_trio
        from personaprobe.organisms.registry import (
            default_feature,
            default_question_sets,
            find_organism,
        )

        trio = own_trio(self.base, self.insecure, self.secure, self.name)
        if trio is None:
            return find_organism(self.name)
        # the narrow task of the default organism is not what these checkpoints learned
        question_sets = replace(default_question_sets(), narrow=None)
        return Organism(self.name, trio, question_sets, feature=default_feature())

    @property
    def checkpoints(self) -> Trio[Checkpoint]:
        """The checkpoints; see :attr:`resolved`."""
        return self.resolved.trio


def _as_flags(names: list[str]) -> str:
    return ", ".join(f"--{name}" for name in names)


def open_trio(chosen: TrioChoice, quiet: bool = False) -> Trio[LanguageModel]:
    """Load the chosen trio under a spinner."""
    checkpoints = chosen.checkpoints
    with spinner(f"loading {chosen.name}", quiet):
        from personaprobe.models.loading import load_checkpoints

        trio = load_checkpoints(checkpoints, chosen.placement)
    if not quiet and not chosen.is_registered:
        from personaprobe.models.comparability import comparability_of

        print_line(comparability_of(trio), err=True)
    return trio
