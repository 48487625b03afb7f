"""The treatment of a study: a feature fitted to the trio, with the layers and the tokens its ablation acts on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from personaprobe.effects.interventions.along_direction import Intervention, Layers
from personaprobe.effects.targets.discovery import Discovery
from personaprobe.effects.targets.feature import Feature
from personaprobe.effects.targets.target import FittedTarget
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.tokens import Role
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.progress import Progress, silent
from personaprobe.studies.arms.plan import StudyPlan


@dataclass(frozen=True)
class Treatment:
    """A feature's ablation and steering, as the arms of a study apply them.

    Attributes:
        feature: as it was named.
        target: the feature fitted to the trio.
        layers: where it is ablated.
        roles: the tokens that are changed.
    """

    feature: Feature
    target: FittedTarget
    layers: tuple[int, ...]
    roles: Role = Role.ALL

    @classmethod
    def of(
        cls,
        trio: Trio[LanguageModel],
        feature: Feature,
        plan: StudyPlan,
        layers: Layers = None,
        progress: Progress = silent,
    ) -> Treatment:
        """Fit a feature on the plan's discovery questions.

        Raises:
            FeatureError: the feature is of another model, cannot be ablated at these layers, or rests on a dictionary that
                explains less than the plan's floor.
            SiteError: a layer or stream these models do not have.
        """
        discovery = Discovery(plan.discovery, plan.calibration_questions, progress)
        target = feature.target.fit(trio, discovery)
        settled = target.chosen_layers(layers)
        target.refuse_poor(plan.floor)
        return cls(feature, target, settled, plan.roles)

    def ablation(self, coefficient: float = 1.0) -> Intervention:
        """The feature removed from insecure; 1 goes as far as the feature's own ablation."""
        return self.target.ablation(self.layers, coefficient, self.roles)

    def in_last_block(self, n_layers: int) -> Intervention:
        """The feature removed after the last block alone, where nothing but the next token is left to choose.

        Args:
            n_layers: of the model.

        Raises:
            FeatureError: the target cannot be ablated there.
        """
        return self.target.ablation([n_layers - 1], 1.0, self.roles)

    def steering(self, coefficient: float = 1.0) -> Intervention | None:
        """Base pushed along the feature, on the tokens that its ablation acts on; None where it has no axis."""
        if self.target.axis is None:
            return None
        return self.target.steering(coefficient, roles=self.roles)

    def describe(self) -> dict[str, Any]:
        """The feature as plain data, with its evidence."""
        return {
            "name": self.feature.name,
            "title": self.feature.title,
            "hook_name": self.target.site.to_transformer_lens(),
            **self.target.describe(self.layers),
            "evidence": self.feature.evidence,
        }
