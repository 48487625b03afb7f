"""Selection from a sweep: the cell that removes the shift most exactly, among those that cost little and stay coherent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from personaprobe.effects.measures.coherence import CoherenceRule
from personaprobe.effects.measures.responses import Response
from personaprobe.effects.targets.direction import DirectionTarget
from personaprobe.effects.targets.feature import Feature
from personaprobe.errors import DataError
from personaprobe.features.directions.sources import DiscoveryActivations
from personaprobe.models.generation.sampling import Sampling
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.storage.plain_json import to_plain_json
from personaprobe.studies.arms.answers import QuestionBatch, sample_answers
from personaprobe.studies.arms.arm import Arm
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.sweep.grid import Cell, Grid

SIDE_BY_SIDE = 4
"""Cells that answer side by side, the most exact first, until one of them is coherent."""


@dataclass(frozen=True)
class Bounds:
    """The most that a chosen cell may cost; stricter than the verdict's own bars, since few texts and answers are read.

    Attributes:
        max_perplexity_ratio: on neutral text, to the untreated insecure model.
        min_coherence: share of coherent answers, relative to the untreated insecure model's.
        answers: discovery questions that candidates answer; 0 draws no answer, and coherence is not bounded.
        sampling: how those answers are drawn.
    """

    max_perplexity_ratio: float = 1.03
    min_coherence: float = 0.95
    answers: int = 24
    sampling: Sampling = field(default_factory=lambda: Sampling(max_new_tokens=40))


@dataclass(frozen=True)
class SweepResult:
    """A sweep with the cell that was chosen.

    Attributes:
        cells: all of them.
        chosen: one of them.
        target: the chosen direction, to be ablated as the chosen cell was.
        grid: the combinations that were tried.
        bounds: the most that the chosen cell was allowed to cost.
    """

    cells: tuple[Cell, ...]
    chosen: Cell
    target: DirectionTarget
    grid: Grid
    bounds: Bounds

    @property
    def feature(self) -> Feature:
        """The chosen direction as a feature, with the sweep as its evidence."""
        name = f"{self.chosen.source}@{self.chosen.layer}"
        return Feature(name, self.target, evidence=self.evidence())

    def to_dict(self) -> dict[str, Any]:
        """The sweep and its choice as plain data, as written to ``sweep.json``."""
        data: dict[str, Any] = to_plain_json({"schema": "personaprobe-sweep-1", **self.evidence()})
        return data

    def evidence(self) -> dict[str, Any]:
        """All cells, their number and the chosen one, as plain data for the registry."""
        questions, texts = self.grid.questions, self.grid.texts
        return {
            "chosen": self.chosen.to_dict(),
            "candidates": len(self.cells),
            "sweep": [cell.to_dict() for cell in self.cells],
            "questions": {"name": questions.name, "digest": questions.digest, "n": len(questions)},
            "families": sorted(set(questions.families)),
            "texts": {"name": texts.name, "digest": texts.digest, "n": len(texts)},
            "bounds": {
                "max_perplexity_ratio": self.bounds.max_perplexity_ratio,
                "min_coherence": self.bounds.min_coherence if self.bounds.answers else None,
                "answers": self.bounds.answers,
            },
        }


def allowed(cells: Sequence[Cell], max_perplexity_ratio: float) -> list[Cell]:
    """The cells within the bound on perplexity, the one whose fraction removed is nearest to 1 first.

    To remove more than the whole shift is as wrong as to leave as much of it, so that a choice does not reward overshoot.

    Raises:
        DataError: every cell costs more than allowed.
    """
    cheap = [cell for cell in cells if cell.perplexity_ratio <= max_perplexity_ratio]
    if not cheap:
        least = min(cells, key=lambda cell: cell.perplexity_ratio)
        raise DataError(
            f"no direction stays within perplexity × {max_perplexity_ratio}; the least is × {least.perplexity_ratio:.2f} "
            f"({least.source}@{least.layer}, {least.scope}): try other layers, reaches or doses"
        )
    return sorted(cheap, key=_distance_from_whole)


@dataclass(frozen=True)
class Selection:
    """Chooses a cell of a measured grid.

    Attributes:
        trio: loaded.
        activations: of the trio on all discovery questions.
        grid: the combinations that were tried.
        bounds: the most that the chosen cell may cost.
        run: cache and progress.
    """

    trio: Trio[LanguageModel]
    activations: DiscoveryActivations
    grid: Grid
    bounds: Bounds
    run: RunContext

    def choose(self, cells: Sequence[Cell]) -> SweepResult:
        """Choose the cell within the bounds that removes most exactly the shift; candidates answer discovery questions.

        Raises:
            DataError: no cell stays within them.
        """
        candidates = allowed(cells, self.bounds.max_perplexity_ratio)
        if not self.bounds.answers:
            return self._result(cells, candidates[0])
        answered: dict[Cell, Cell] = {}
        for group in self._with_coherence(candidates):
            answered |= group
            coherent = [
                cell for cell in group.values() if (cell.coherence or 0.0) >= self.bounds.min_coherence
            ]
            if coherent:
                return self._result([answered.get(cell, cell) for cell in cells], coherent[0])
        best = max(answered.values(), key=lambda cell: cell.coherence or 0.0)
        raise DataError(
            f"{len(answered)} directions stay within perplexity × {self.bounds.max_perplexity_ratio}, but none keeps "
            f"{self.bounds.min_coherence:.0%} of the coherent answers; the best, {best.source}@{best.layer} "
            f"({best.scope}), keeps {best.coherence:.0%}: try other layers, reaches or smaller doses"
        )

    def _result(self, cells: Sequence[Cell], chosen: Cell) -> SweepResult:
        target = chosen.target(self.activations, self.trio.base.n_layers)
        return SweepResult(tuple(cells), chosen, target, self.grid, self.bounds)

    def _with_coherence(self, candidates: Sequence[Cell]) -> Iterator[dict[Cell, Cell]]:
        """A few candidates at a time, each with the same cell completed by its coherence."""
        trio, bounds = self.trio, self.bounds
        batch = QuestionBatch(self.grid.questions.spread(bounds.answers).prompts, 1, bounds.sampling)
        untreated = Arm("insecure", "insecure", trio.insecure)
        (answers,) = sample_answers([untreated], batch, trio.base, self.run)
        rule = CoherenceRule.from_untreated(answers)
        usual = _coherent_share(rule, answers)
        if not usual:
            raise DataError(
                "the untreated insecure model gives no coherent answer to compare with; draw no answers: --answers 0"
            )
        for start in range(0, len(candidates), SIDE_BY_SIDE):
            group = candidates[start : start + SIDE_BY_SIDE]
            arms = [cell.arm(trio, self.activations) for cell in group]
            drawn = sample_answers(arms, batch, trio.base, self.run)
            yield {
                cell: replace(cell, coherence=_coherent_share(rule, responses) / usual)
                for cell, responses in zip(group, drawn, strict=True)
            }


def _distance_from_whole(cell: Cell) -> float:
    """How far the fraction removed is from 1; infinitely far where it is not defined."""
    return math.inf if math.isnan(cell.fraction_removed) else abs(1 - cell.fraction_removed)


def _coherent_share(rule: CoherenceRule, responses: Sequence[Response]) -> float:
    return sum(map(rule.holds, responses)) / len(responses)
