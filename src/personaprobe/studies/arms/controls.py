"""Controls of a study: which are drawn, and how a draw is repeated until it acts about as strongly as the feature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from personaprobe.effects.interventions.along_direction import Intervention
from personaprobe.effects.interventions.energy import is_fair, unfair_layers
from personaprobe.effects.targets.controls import MatchedControl
from personaprobe.features.directions.control_directions import ControlKind

CONTROL_SEEDS = 1000
"""Seeds of controls start here, away from seeds that a user would give to ``random@LAYER:SEED``."""

REDRAWN = 100_000
"""Distance between the seeds of a control's draws, so that they meet those of no other control."""

DRAWS = 5
"""Draws of a control at most, until one acts about as strongly as the feature."""

CANDIDATE_SEEDS = 500_000_000
"""Seeds of the candidates among which a control is selected start here."""

NAMES: Mapping[ControlKind, str] = {
    "random": "random",
    "covariance": "covariance",
    "shuffled": "shuffled labels",
}
"""Names of drawn controls, before their number."""

COMPONENTS = 3
"""Principal components that are ablated as controls."""


@dataclass(frozen=True)
class Control:
    """An ablation that should not have the feature's effect, if it is the feature that matters.

    Attributes:
        name: unique in the study.
        kind: where its direction or latents come from.
        seed: of its draw; for a principal component its rank.
        next_draw: the number added to the seed for another draw.
    """

    name: str
    kind: ControlKind
    seed: int
    next_draw: int = REDRAWN

    def drawn_again(self) -> Control:
        """The same control from another draw; a principal component is named by its rank."""
        seed = self.seed + self.next_draw
        name = f"component {seed + 1}" if self.kind == "component" else self.name
        return replace(self, name=name, seed=seed)


def random_controls(n: int, seed: int) -> list[Control]:
    """Controls in isotropic directions, different for every seed of a study."""
    return _drawn("random", n, CONTROL_SEEDS + n * seed)


def deciding_controls(n: int, seed: int) -> list[Control]:
    """Controls that decide, in equal parts: isotropic, drawn from the covariance of response activations, and differences of
    means with shuffled labels.

    Args:
        n: all together.
        seed: of the study; each gives other draws.
    """
    parts = ((n + 2) // 3, (n + 1) // 3, n // 3)
    kinds: tuple[ControlKind, ...] = ("random", "covariance", "shuffled")
    first = CONTROL_SEEDS + n * seed
    return [control for kind, part in zip(kinds, parts, strict=True) for control in _drawn(kind, part, first)]


def candidate_controls(n: int, seed: int) -> list[Control]:
    """Controls among which the best is selected as a feature was, from draws that no other control uses."""
    first = CANDIDATE_SEEDS + n * seed
    return [
        Control(f"candidate {place + 1}", control.kind, first + place)
        for place, control in enumerate(deciding_controls(n, 0))
    ]


def shown_controls(*, benign: bool) -> list[Control]:
    """Controls that are shown beside those that decide: principal components, and the change by harmless training.

    Args:
        benign: whether there is a harmless fine-tune.
    """
    components = [
        Control(f"component {rank + 1}", "component", rank, COMPONENTS) for rank in range(COMPONENTS)
    ]
    return [*components, *([Control("secure − base", "benign", 0)] if benign else [])]


def _drawn(kind: ControlKind, n: int, first_seed: int) -> list[Control]:
    return [Control(f"{NAMES[kind]} {index + 1}", kind, first_seed + index) for index in range(n)]


@dataclass(frozen=True)
class KeptDraw:
    """The draw of a control that was kept.

    Attributes:
        control: as it was drawn.
        matched: the control, scaled to the feature's energy.
        draws: how many draws it took.
    """

    control: Control
    matched: MatchedControl
    draws: int


def fair_draw(
    control: Control, draw: Callable[[Control], MatchedControl], others: Sequence[Intervention] = ()
) -> KeptDraw | None:
    """Draw a control until it is new and acts about as strongly as the feature.

    Where no new draw is fair, the one with fewest layers outside the fair range is kept; such a control does not decide.
    None where every one of :data:`DRAWS` draws is one of the others.

    Args:
        control: as it is drawn first.
        draw: matches a control to the feature.
        others: interventions of other arms; few latents fire as often as a given one, so that two draws may be the same.
    """
    taken = [other.describe() for other in others]
    new: list[tuple[Control, MatchedControl]] = []
    draws = 0
    while draws < DRAWS and not (new and is_fair(new[-1][1].coefficients)):
        matched, draws = draw(control), draws + 1
        if matched.intervention.describe() not in taken:
            new.append((control, matched))
        control = control.drawn_again()
    if not new:
        return None
    nearest = min(new, key=lambda drawn: len(unfair_layers(drawn[1].coefficients)))
    return KeptDraw(*nearest, draws)
