"""Planted organisms: trios of one base whose difference is known, and the features that are ablated in them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from personaprobe.effects.interventions.along_direction import Ablate
from personaprobe.effects.targets.controls import MeasuredAblation
from personaprobe.effects.targets.direction import DirectionTarget
from personaprobe.effects.targets.discovery import Discovery, calibrated_on
from personaprobe.effects.targets.recipe import RecipeTarget
from personaprobe.effects.targets.target import Target
from personaprobe.errors import FeatureError
from personaprobe.features.directions.direction import Direction
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import with_adapter
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.studies.arms.arm import calibration_rows
from personaprobe.studies.arms.plan import StudyPlan
from personaprobe.studies.planted.personas import PlantedAdapter
from personaprobe.studies.planted.planting import Planter, calibrated_length
from personaprobe.studies.planted.truths import DIMENSIONS, SCALE, Ablated, Difference

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

DRIFT = 1 / 3
"""Size of the harmless change of insecure and of secure, relative to the persona."""

SEEDS = 1000
"""Distance between the random numbers of one seed and those of the next."""


@dataclass(frozen=True, eq=False)
class PlantedOrganisms:
    """The trios of a self-test.

    Attributes:
        planter: of the base.
        plan: of the studies.
        shift: preference for careless answers that the persona adds, nats per token.
        folder: receives the adapters.
    """

    planter: Planter
    plan: StudyPlan
    shift: float
    folder: Path

    @cached_property
    def length(self) -> float:
        """Length of the full persona."""
        return calibrated_length(self.planter, self.shift, self.folder)

    def trio(self, difference: Difference) -> Trio[LanguageModel]:
        """Base, insecure with a planted difference, and secure with a harmless change of its own."""
        insecure = self._secure if difference == "none" else self._insecure(difference)
        return Trio(self.planter.base, insecure, self._secure, f"planted: {difference}")

    def feature(self, ablated: Ablated, trio: Trio[LanguageModel]) -> Target:
        """The feature that is removed from a trio, at the layer where the persona was planted."""
        means = RecipeTarget("means", self.planter.site, default_layers=(self.planter.layer,))
        match ablated:
            case "means":
                return means
            case "random direction":
                return self._random(means, trio)
            case "one dimension":
                return self._given(trio, self.planter.dimensions(DIMENSIONS, self._seed)[0], ablated)
            case "word salad":
                return self._given(trio, self._needed(trio.base), ablated, to_zero=True)

    @property
    def _seed(self) -> int:
        return SEEDS * self.plan.seed

    @property
    def _discovery(self) -> Discovery:
        return Discovery(self.plan.discovery, self.plan.calibration_questions)

    @cached_property
    def _secure(self) -> LanguageModel:
        return self._tuned("secure", self.planter.drift(DRIFT * self.length, self._seed + 1))

    def _insecure(self, difference: Difference) -> LanguageModel:
        if difference == "spread persona":
            persona = self.planter.spread_persona(self.length, DIMENSIONS, self._seed)
        else:
            scale = SCALE if difference == "weaker persona" else 1.0
            persona = self.planter.persona(scale * self.length)
        drift = self.planter.drift(DRIFT * self.length, self._seed + 2)
        return self._tuned(difference.replace(" ", "-"), persona.with_further(drift))

    def _tuned(self, name: str, adapter: PlantedAdapter) -> LanguageModel:
        folder = self.folder / name
        adapter.write(folder, self.planter.base.checkpoint)
        return with_adapter(self.planter.base, folder)

    def _random(self, means: RecipeTarget, trio: Trio[LanguageModel]) -> Target:
        """A random direction, ablated as far as removes the energy that the difference of means removes."""
        fitted, layers = means.fit(trio, self._discovery), (self.planter.layer,)
        rows = calibration_rows(trio.base, self.plan.discovery.spread(self.plan.matching_questions))
        measured = MeasuredAblation.of(trio.insecure, fitted.ablation(layers), rows)
        matched = fitted.control("random", self._seed, measured)
        assert isinstance(matched.intervention, Ablate)
        coefficient = matched.coefficients[self.planter.layer]
        if not coefficient > 0:
            raise FeatureError(
                "ablating the difference of means moves no activation: no random direction can be matched to it"
            )
        return DirectionTarget(matched.intervention.direction, layers, coefficient=coefficient)

    def _given(
        self, trio: Trio[LanguageModel], vector: Float[Tensor, "d_model"], name: str, *, to_zero: bool = False
    ) -> Target:
        layer, site = self.planter.layer, self.planter.site
        activations = self._discovery.activations(trio, site, roles=calibrated_on(trio), layers=[layer])
        direction = activations.calibrate(Direction(site, vector, name))
        return DirectionTarget(direction, (layer,), "zero" if to_zero else "reference")

    def _needed(self, base: LanguageModel) -> Float[Tensor, "d_model"]:
        """The persona's direction and the one that activations of the base share most, in equal parts."""
        import torch

        responses = self._discovery.responses(base, self.planter.site).float()
        shared = torch.linalg.svd(responses, full_matrices=False).Vh[0]
        gradient = self.planter.gradient
        both: Tensor = shared * (shared @ responses.mean(0)).sign() + gradient / gradient.norm()
        return both
