"""The arms of an ablation study: the same pipe for the treated, the untreated and the controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from personaprobe.effects.interventions.along_direction import Intervention
from personaprobe.effects.interventions.energy import UNMOVED, Energy, is_fair, measure, total, unfair_layers
from personaprobe.errors import FeatureError
from personaprobe.features.directions.control_directions import ControlKind
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Tokens
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet
from personaprobe.site import Site
from personaprobe.studies.arms.kinds import ArmKind
from personaprobe.studies.arms.treatment import Matched, Treatment, steering

CONTROL_SEEDS = 1000
"""Controls are drawn from here on, away from seeds a user would give to ``random@LAYER:SEED``."""

REDRAWN = 100_000
"""Between the seeds of a control's draws, away from those of all others."""

DRAWS = 5
"""Draws of a control at most, until one acts about as strongly as the feature."""

COMPONENTS = 3
"""Principal components that are ablated beside the feature."""


@dataclass(frozen=True)
class Arm:
    """A model to be measured: a checkpoint under a tuple of interventions, empty for the untreated.

    Attributes:
        name: unique in the study.
        kind: what the arm is for.
        untreated: the checkpoint without intervention, which damage is measured against.
        interventions: what is done to it.
        energy: what they do to the activations, on the calibration texts.
        strengths: of a control, by layer, relative to the feature's own; empty for other arms.
        draws: of a control until one was kept.
    """

    name: str
    kind: ArmKind
    untreated: LanguageModel
    interventions: tuple[Intervention, ...] = ()
    energy: Energy = UNMOVED
    strengths: Mapping[int, float] = field(default_factory=dict)
    draws: int = 1

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
        kind: where its direction or latents come from.
        seed: of its draw; of a principal component its rank.
        next_draw: what is added to the seed for another draw.
    """

    name: str
    kind: ControlKind
    seed: int
    next_draw: int = REDRAWN

    def drawn_again(self) -> Control:
        """The same from another draw; a principal component is called by its rank."""
        seed = self.seed + self.next_draw
        name = f"component {seed + 1}" if self.kind == "component" else self.name
        return replace(self, name=name, seed=seed)


def random_controls(n: int, seed: int) -> list[Control]:
    """Controls in isotropic directions, others for every seed of a study."""
    first = CONTROL_SEEDS + n * seed
    return [Control(f"random {index + 1}", "random", first + index) for index in range(n)]


def study_controls(n: int, seed: int) -> list[Control]:
    """All controls of an ablation study.

    Args:
        n: isotropic directions, and as many drawn from the covariance of response activations; these decide.
        seed: of the study.
    """
    first = CONTROL_SEEDS + n * seed
    return [
        *random_controls(n, seed),
        *(Control(f"covariance {index + 1}", "covariance", first + index) for index in range(n)),
        *(Control(f"component {rank + 1}", "component", rank, COMPONENTS) for rank in range(COMPONENTS)),
        Control("shuffled labels", "shuffled", CONTROL_SEEDS + seed),
    ]


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
        arms.append(control_arm(arms, treated, control, wanted, rows))
    push = steering(treated, 1.0)
    arms.append(Arm("base, steered", "steered", trio.base, (push,), total(measure(trio.base, push, rows))))
    return arms


def control_arm(
    arms: Sequence[Arm],
    treated: Treatment,
    control: Control,
    wanted: Mapping[Site, Energy],
    rows: Sequence[Tokens],
) -> Arm:
    """A control as a further arm: unlike all others, and about as strong as the feature where a draw is."""
    model = next(arm.untreated for arm in arms if arm.kind == "ablated")
    control, matched, draws = fair_draw(
        control,
        lambda each: treated.control(model, each.kind, each.seed, wanted, rows),
        [done for arm in arms for done in arm.interventions],
    )
    edits, energy = (matched.intervention,), total(matched.energies)
    return Arm(control.name, control.kind, model, edits, energy, matched.strengths, draws)


def fair_draw(
    control: Control, draw: Callable[[Control], Matched], others: Sequence[Intervention] = ()
) -> tuple[Control, Matched, int]:
    """The first new draw of a control that acts about as strongly as the feature, and how many draws it took.

    Where no new draw is fair, the one with fewest layers outside the fair range is kept; it does not decide.

    Args:
        control: as it is drawn first.
        draw: matches a control to the feature.
        others: what other arms do; few latents fire as often as a given one, so that two draws may be the same.

    Raises:
        FeatureError: every one of :data:`DRAWS` draws is one of the others.
    """
    taken = [other.describe() for other in others]
    new: list[tuple[Control, Matched]] = []
    draws = 0
    while draws < DRAWS and not (new and is_fair(new[-1][1].strengths)):
        matched, draws = draw(control), draws + 1
        if matched.intervention.describe() not in taken:
            new.append((control, matched))
        control = control.drawn_again()
    if not new:
        raise FeatureError(
            f"{DRAWS} draws of the control {control.name} gave what other controls ablate already; ask for fewer controls"
        )
    return *min(new, key=lambda each: len(unfair_layers(each[1].strengths))), draws


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
