"""Arms: a checkpoint under interventions, measured by the same pipe whether it is treated, untreated or a control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from personaprobe.effects.interventions.along_direction import Intervention
from personaprobe.effects.interventions.energy import UNMOVED, Energy
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Tokens
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet
from personaprobe.studies.arms.kinds import ArmKind


@dataclass(frozen=True)
class Arm:
    """A model to be measured: a checkpoint under a tuple of interventions, empty for the untreated.

    Attributes:
        name: unique in the study.
        kind: what the arm is for.
        untreated: the checkpoint without intervention, which damage is measured against.
        interventions: in the order in which they act.
        energy: by which they move the activations, on the calibration texts.
        coefficients: of a control, by layer, relative to the feature's own; empty for other arms.
        draws: of a control, until one was kept.
        role: of the untreated checkpoint in the trio.
    """

    name: str
    kind: ArmKind
    untreated: LanguageModel
    interventions: tuple[Intervention, ...] = ()
    energy: Energy = UNMOVED
    coefficients: Mapping[int, float] = field(default_factory=dict)
    draws: int = 1
    role: str = "insecure"

    @property
    def model(self) -> LanguageModel:
        """The checkpoint under its interventions."""
        return self.untreated.edited(*self.interventions)

    @property
    def note(self) -> str:
        """One line for tables."""
        return ", ".join(intervention.note for intervention in self.interventions) or "no intervention"


def role_arms(models: Mapping[str, LanguageModel]) -> list[Arm]:
    """Models without intervention, each by its role: base, insecure or secure."""
    return [Arm(role, role, model, role=role) for role, model in models.items()]  # type: ignore[arg-type]  # roles are kinds


def untreated_arms(trio: Trio[LanguageModel]) -> list[Arm]:
    """The checkpoints without intervention: base, insecure, and every harmless fine-tune there is."""
    members = role_arms(dict(trio.items()))
    further = [
        Arm(role, "further secure", model, role=role) for role, model in trio.secures() if role != "secure"
    ]
    return [*members, *further]


def calibration_rows(model: LanguageModel, texts: PairSet) -> list[Tokens]:
    """Question and answer rows; careful and careless answers alternate, so that both kinds count equally."""
    pairs: Sequence[tuple[str, str]] = [
        (pair.question, pair.careless if index % 2 else pair.careful) for index, pair in enumerate(texts)
    ]
    return [model.tokenizer.exchange(question, answer) for question, answer in pairs]


def by_checkpoint(arms: Sequence[Arm]) -> list[list[int]]:
    """Indices of the arms, grouped by their weights."""
    groups: dict[str, list[int]] = {}
    for index, arm in enumerate(arms):
        groups.setdefault(arm.untreated.checkpoint.digest, []).append(index)
    return list(groups.values())


def identity(arm: Arm) -> dict[str, Any]:
    """Plain data that determines an arm's values: the weights, their precision, and the interventions."""
    return {
        "checkpoint": arm.untreated.checkpoint.digest,
        "dtype": str(arm.untreated.network.dtype),
        "interventions": [intervention.describe() for intervention in arm.interventions],
    }
