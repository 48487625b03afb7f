"""The arms of a study: three checkpoints, the feature's ablation, its controls and variants, and the ablation elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from personaprobe.effects.interventions.along_direction import Intervention
from personaprobe.effects.interventions.energy import Energy, measure, total
from personaprobe.effects.targets.controls import MatchedControl, MeasuredAblation
from personaprobe.errors import FeatureError, ZeroDirectionError
from personaprobe.features.directions.direction import Direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Tokens
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet
from personaprobe.site import Site
from personaprobe.studies.arms.arm import Arm, calibration_rows, untreated_arms
from personaprobe.studies.arms.controls import Control, fair_draw
from personaprobe.studies.arms.kinds import DECIDING, ArmKind
from personaprobe.studies.arms.treatment import Treatment


@dataclass(frozen=True, eq=False)
class StudyArms:
    """Makes the arms of one study; controls are matched on the energy that the feature's ablation removes.

    Attributes:
        trio: loaded.
        treatment: the feature's ablation and steering.
        texts: energies are measured on them.
    """

    trio: Trio[LanguageModel]
    treatment: Treatment
    texts: PairSet

    @cached_property
    def rows(self) -> list[Tokens]:
        """The texts, tokenised."""
        return calibration_rows(self.trio.base, self.texts)

    @cached_property
    def measured(self) -> MeasuredAblation:
        """The feature's ablation in insecure, with the energy it removes."""
        return MeasuredAblation.of(self.trio.insecure, self.treatment.ablation(), self.rows)

    def main(self) -> list[Arm]:
        """The checkpoints without intervention, and insecure with the feature ablated."""
        energy = total(self.measured.energies)
        ablated = Arm("insecure, ablated", "ablated", self.trio.insecure, (self.measured.ablation,), energy)
        return [*untreated_arms(self.trio), ablated]

    def controls(self, controls: Sequence[Control], others: Sequence[Arm]) -> list[Arm]:
        """Ablations of other directions or latents in insecure, each different from the others and from other arms.

        Controls of which every draw is another arm already are left out: few latents fire as often as a given one.
        """
        arms: list[Arm] = []
        for control in controls:
            arm = self.control(control, [*others, *arms])
            arms += [] if arm is None else [arm]
        return arms

    def control(self, control: Control, others: Sequence[Arm]) -> Arm | None:
        """A control that acts about as strongly as the feature where some draw does.

        None where no draw is new, or where a control that is only shown has no direction: harmless training may have changed
        nothing at the site.
        """
        taken = [intervention for arm in others for intervention in arm.interventions]
        target = self.treatment.target
        try:
            drawn = fair_draw(
                control, lambda draw: target.control(draw.kind, draw.seed, self.measured), taken
            )
        except ZeroDirectionError:
            if control.kind in DECIDING:
                raise
            return None
        if drawn is None:
            return None
        return self._control_arm(drawn.control.name, drawn.control.kind, drawn.matched, drawn.draws)

    def along(self, directions: Sequence[tuple[str, Direction]], kind: ArmKind) -> list[Arm]:
        """Ablations of given directions in insecure, matched as controls are; none where the target's are no directions.

        Args:
            directions: each with the name of its arm.
            kind: of the arms.
        """
        try:
            return [
                self._control_arm(
                    name, kind, self.treatment.target.control_along(direction, self.measured), 1
                )
                for name, direction in directions
            ]
        except FeatureError:
            return []

    def _control_arm(self, name: str, kind: ArmKind, matched: MatchedControl, draws: int) -> Arm:
        energy = total(matched.energies)
        intervention = (matched.intervention,)
        return Arm(name, kind, self.trio.insecure, intervention, energy, matched.coefficients, draws)

    def steered(self, *coefficients: float) -> list[Arm]:
        """Base pushed along the feature by some coefficients; none where the target has no axis."""
        pushes = [(x, self.treatment.steering(x)) for x in coefficients]
        return [self._in("base", _steered_name(x), "steered", push) for x, push in pushes if push is not None]

    def elsewhere(self, controls: Sequence[Arm]) -> list[Arm]:
        """The feature's ablation, and some controls as they act in insecure, in the untouched base and in secure."""
        others = [role for role, _ in self.trio.items() if role != "insecure"]
        ablated = [
            self._in(role, f"{role}, ablated", "ablated elsewhere", self.measured.ablation) for role in others
        ]
        return ablated + [
            self._in(role, f"{role}, {control.name}", "control elsewhere", *control.interventions)
            for role in others
            for control in controls
        ]

    def variants(self) -> list[Arm]:
        """Parts of the ablation: the shift of the mean alone, and the last block alone."""
        return [
            self._in("insecure", name, kind, intervention)
            for name, kind, intervention in self._variants()
            if intervention is not None
        ]

    def _variants(self) -> Iterator[tuple[str, ArmKind, Intervention | None]]:
        yield "mean shift only", "mean shift", self.treatment.target.mean_shift(self.measured)
        try:
            yield "last block only", "last block", self.treatment.in_last_block(self.trio.base.n_layers)
        except FeatureError:  # the target lies at a layer of its own
            return

    def _in(self, role: str, name: str, kind: ArmKind, *interventions: Intervention) -> Arm:
        model = self.trio[role]
        by_site: dict[Site, Energy] = {}
        for intervention in interventions:
            by_site |= measure(model, intervention, self.rows)
        return Arm(name, kind, model, interventions, total(by_site), role=role)


def _steered_name(coefficient: float) -> str:
    return "base, steered" if coefficient == 1 else f"base, steered × {coefficient:g}"
