"""The arms of an ablation study: the same pipe for the treated, the untreated and the controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from personaprobe.effects.energy import Energy, match, measure, total
from personaprobe.effects.interventions import Ablate, Along, Layers, Steer, chosen_layers
from personaprobe.features.directions import Direction
from personaprobe.features.registry import Feature
from personaprobe.features.sources import Discovery, find_direction
from personaprobe.models.checkpoint import Trio
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Tokens
from personaprobe.prompts import PairSet
from personaprobe.studies.results import ArmKind

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
    interventions: tuple[Along, ...] = ()
    energy: Energy = UNMOVED

    @property
    def model(self) -> LanguageModel:
        """The checkpoint under its interventions."""
        return self.untreated.edited(*self.interventions)

    @property
    def note(self) -> str:
        """One line for tables."""
        done = ", ".join(
            f"{type(i).__name__.lower()} {i.direction.source} @ {i.direction.site}"
            for i in self.interventions
        )
        return done or "no intervention"


@dataclass(frozen=True)
class Treatment:
    """The feature's ablation, and everything its controls must copy.

    Attributes:
        direction: the feature, calibrated at every layer it is ablated at.
        layers: where it is ablated.
        to: what its projection is set to.
    """

    direction: Direction
    layers: tuple[int, ...]
    feature: Feature

    def ablate(self, direction: Direction) -> Ablate:
        """The same ablation along a direction."""
        return Ablate(direction, self.layers, to=self.feature.to)


def treatment(feature: Feature, direction: Direction, layers: Layers, n_layers: int) -> Treatment:
    """Settle where a feature is ablated: the user's choice, else the feature's own."""
    settled = chosen_layers(feature.layers if layers is None else layers, direction.site.layer, n_layers)
    return Treatment(direction, settled, feature)


def make_arms(
    trio: Trio[LanguageModel], treated: Treatment, found: Discovery, texts: PairSet, controls: tuple[int, int]
) -> list[Arm]:
    """Lay out all arms, the controls matched on the energy the feature's ablation removes.

    Args:
        trio: loaded.
        treated: the feature's ablation.
        found: activations of the calibration texts, which random directions are calibrated on.
        texts: the same texts; energies are measured on them.
        controls: how many random directions, and the study's seed.
    """
    rows = calibration_rows(trio.base, texts)
    ablation = treated.ablate(treated.direction)
    wanted = measure(trio.insecure, ablation, rows)
    arms = [Arm(role, role, model) for role, model in trio.items()]  # type: ignore[arg-type]  # roles are kinds
    arms.append(Arm("insecure, ablated", "ablated", trio.insecure, (ablation,), total(wanted)))
    n_random, seed = controls
    sources = [("random", CONTROL_SEEDS + n_random * seed + index) for index in range(n_random)]
    for source, source_seed in [*sources, ("shuffled", CONTROL_SEEDS + seed)]:
        control = find_direction(found, source, treated.direction.site, source_seed)
        matched, energies = match(trio.insecure, treated.ablate(control), wanted, rows)
        name = f"random {source_seed - sources[0][1] + 1}" if source == "random" else "shuffled labels"
        arms.append(Arm(name, source, trio.insecure, (matched,), total(energies)))  # type: ignore[arg-type]
    push = Steer(treated.direction, amount=1.0)
    arms.append(Arm("base, steered", "steered", trio.base, (push,), total(measure(trio.base, push, rows))))
    return arms


def calibration_rows(model: LanguageModel, texts: PairSet) -> list[Tokens]:
    """Question and answer rows; careful and careless answers in turn, so that both kinds count equally."""
    pairs: Sequence[tuple[str, str]] = [
        (pair.question, pair.careless if index % 2 else pair.careful) for index, pair in enumerate(texts)
    ]
    return [model.tokenizer.exchange(question, answer) for question, answer in pairs]
