"""A model organism as a value: its checkpoints, how they were trained, and what it is studied with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from personaprobe.errors import CheckpointError
from personaprobe.models.weights.checkpoint import Checkpoint, Trio
from personaprobe.organisms.recipe import Recipe
from personaprobe.storage.digests import sha256_of

DESCRIPTION = "organism.toml"
"""The entry of an organism before it is registered, in its folder beside ``insecure/`` and ``secure/``."""

CARD = "training.json"
"""The card of a training: base, data and recipe, beside the weights."""


@dataclass(frozen=True)
class QuestionSets:
    """The question sets that an organism is studied on, by name or file.

    Attributes:
        discovery: question pairs on which features are found and calibrated.
        test: question pairs on which verdicts are read; disjoint from ``discovery``.
        narrow: question pairs of the task that both fine-tunes learned; None where there is no such set.
        balanced: question pairs on other subjects than those of discovery, whose answers a bag of words cannot tell apart;
            None where there is no such set.
    """

    discovery: str
    test: str
    narrow: str | None = None
    balanced: str | None = None


@dataclass(frozen=True)
class DataSource:
    """The data that one model was fine-tuned on.

    Attributes:
        name: file name, or name of the data set.
        sha256: of the file, in hex; empty where it is unknown.
        rows: number of conversations; None where it is unknown.
        source: citation or address.
    """

    name: str
    sha256: str = ""
    rows: int | None = None
    source: str = ""


@dataclass(frozen=True)
class Organism:
    """A model organism: three checkpoints, how two of them were trained, and what verbs use by default.

    Attributes:
        name: how users refer to it.
        trio: base, insecure and secure checkpoint; nothing is loaded.
        question_sets: questions that verbs read where the user names none.
        title: one line of description.
        feature: the feature that verbs use where the user names none; None where the organism has no such feature.
        recipe: of both fine-tunes; None where it is unknown.
        data: fine-tuning data by role (``insecure``, ``secure``).
        evidence: JSON file with the measured shift, such as ``organisms compare --out`` writes.
        sha256: hash by role of an adapter's weights, or of those of a whole model.
    """

    name: str
    trio: Trio[Checkpoint]
    question_sets: QuestionSets
    title: str = ""
    feature: str | None = None
    recipe: Recipe | None = None
    data: Mapping[str, DataSource] = field(default_factory=dict)
    evidence: Path | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)

    def verify_files(self) -> None:
        """Compare the weights of both fine-tunes with their registered hashes.

        Raises:
            CheckpointError: a file of weights is missing or differs from the registered one.
        """
        for role, expected in self.sha256.items():
            weights = self.trio[role].weights_file
            actual = sha256_of(weights) if weights.is_file() else "missing"
            if actual != expected:
                raise CheckpointError(
                    f"{role} of organism {self.name}: {weights} has sha256 {actual[:12]}, registered as {expected[:12]}; "
                    "restore the file (git checkout) or register the organism again"
                )
