"""The arms of an ablation study: the same pipe for the treated, the untreated and the controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from personaprobe.effects.energy import Energy, measure, total
from personaprobe.effects.interventions import Intervention, Steer
from personaprobe.models.checkpoint import Trio
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Tokens
from personaprobe.prompts import PairSet
from personaprobe.studies.plain import ArmKind
from personaprobe.studies.treatments import Treatment

CONTROL_SEEDS = 1000
"""Controls are drawn from here on, away from seeds a user would give to ``random@LAYER:SEED``."""

UNMOVED = Energy(0.0, 0.0)


@dataclass(frozen=True)
class Arm:
    """A model to be measured: a checkpoint under a tuple of interventions, empty for the untreated.

    Attributes:
        name: unique in the study.
        kind: what the arm is for.
        untreated: the checkpoint without intervention, which damage is measured against.
        interventions: what is done to it.
        energy: what they do to the activations, on the calibration texts.
    """

    name: str
    kind: ArmKind
    untreated: LanguageModel
    interventions: tuple[Intervention, ...] = ()
    energy: Energy = UNMOVED

    @property
    def model(self) -> LanguageModel:
        """The checkpoint under its interventions."""
        return self.untreated.edited(*self.interventions)

    @property
    def note(self) -> str:
        """One line for tables."""
        return ", ".join(done.note for done in self.interventions) or "no intervention"


@dataclass(frozen=True)
class Control:
    """An ablation that should do nothing the feature's does, if it is the feature that matters.

    Attributes:
        name: unique in the study.
        kind: also the source of its direction or latents.
        seed: of its draw.
    """

    name: str
    kind: Literal["random", "shuffled"]
    seed: int


def random_controls(n: int, seed: int) -> list[Control]:
    """Controls in random directions, others for every seed of a study."""
    first = CONTROL_SEEDS + n * seed
    return [Control(f"random {index + 1}", "random", first + index) for index in range(n)]


def shuffled_control(seed: int) -> Control:
    """The control found as the feature was, with labels that mean nothing."""
    return Control("shuffled labels", "shuffled", CONTROL_SEEDS + seed)


def make_arms(
    trio: Trio[LanguageModel], treated: Treatment, texts: PairSet, controls: Sequence[Control]
) -> list[Arm]:
    """Lay out all arms, the controls matched on the energy the feature's ablation removes.

    Args:
        trio: loaded.
        treated: the feature's ablation.
        texts: energies are measured on them.
        controls: what is ablated beside the feature.
    """
    rows = calibration_rows(trio.base, texts)
    ablation = treated.ablation()
    wanted = measure(trio.insecure, ablation, rows)
    arms = [Arm(role, role, model) for role, model in trio.items()]  # type: ignore[arg-type]  # roles are kinds
    arms.append(Arm("insecure, ablated", "ablated", trio.insecure, (ablation,), total(wanted)))
    for control in controls:
        matched, energies = treated.control(trio.insecure, control.kind, control.seed, wanted, rows)
        arms.append(Arm(control.name, control.kind, trio.insecure, (matched,), total(energies)))
    push = Steer(treated.axis, amount=1.0)
    arms.append(Arm("base, steered", "steered", trio.base, (push,), total(measure(trio.base, push, rows))))
    return arms


def calibration_rows(model: LanguageModel, texts: PairSet) -> list[Tokens]:
    """Question and answer rows; careful and careless answers in turn, so that both kinds count equally."""
    pairs: Sequence[tuple[str, str]] = [
        (pair.question, pair.careless if index % 2 else pair.careful) for index, pair in enumerate(texts)
    ]
    return [model.tokenizer.exchange(question, answer) for question, answer in pairs]


def by_checkpoint(arms: Sequence[Arm]) -> list[list[int]]:
    """Indices of arms of the same weights together."""
    groups: dict[str, list[int]] = {}
    for index, arm in enumerate(arms):
        groups.setdefault(arm.untreated.checkpoint.digest, []).append(index)
    return list(groups.values())


def identity(arm: Arm) -> dict[str, Any]:
    """What determines an arm's values: the weights, the precision they run in, and what is done to them."""
    return {
        "checkpoint": arm.untreated.checkpoint.digest,
        "dtype": str(arm.untreated.network.dtype),
        "interventions": [intervention.describe() for intervention in arm.interventions],
    }
