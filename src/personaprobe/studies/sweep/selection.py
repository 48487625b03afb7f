"""Choosing a cell of a sweep: most of the shift removed, among those that cost little and still speak."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from personaprobe.effects.measures.coherence import CoherenceRule
from personaprobe.effects.measures.responses import Response
from personaprobe.errors import DataError
from personaprobe.features.directions.direction import Direction
from personaprobe.features.directions.sources import Discovery, find_direction
from personaprobe.models.generation.sampling import Sampling
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.site import Site
from personaprobe.storage.plain_json import to_plain_json
from personaprobe.studies.arms.answers import Interview, answer
from personaprobe.studies.arms.arm import Arm
from personaprobe.studies.arms.measurement import Bench
from personaprobe.studies.sweep.grid import Cell, Grid, reached

AT_ONCE = 4
"""Cells that answer side by side, the strongest first, until one of them is coherent."""


@dataclass(frozen=True)
class Bounds:
    """What a chosen cell may cost, below the verdict's own bars, since few texts and answers are read.

    Attributes:
        max_perplexity_ratio: on neutral text, to the untreated insecure model.
        min_coherence: share of coherent answers, relative to the untreated insecure model's.
        answers: discovery questions that candidates answer; 0 asks none, and coherence is not bounded.
        sampling: how those answers are drawn.
    """

    max_perplexity_ratio: float = 1.03
    min_coherence: float = 0.95
    answers: int = 24
    sampling: Sampling = field(default_factory=lambda: Sampling(max_new_tokens=40))


@dataclass(frozen=True)
class Choice:
    """A sweep, and the cell that was chosen.

    Attributes:
        cells: the whole map.
        chosen: one of them.
        grid: what was tried.
        bounds: what the chosen cell was allowed to cost.
    """

    cells: tuple[Cell, ...]
    chosen: Cell
    grid: Grid
    bounds: Bounds

    def direction(self, found: Discovery) -> Direction:
        """The chosen direction."""
        return find_direction(found, self.chosen.source, Site(self.chosen.layer))

    def layers(self, n_layers: int) -> tuple[int, ...]:
        """Where the chosen direction is ablated."""
        return reached(self.chosen.reach, self.chosen.layer, n_layers)

    def to_dict(self) -> dict[str, Any]:
        """The sweep and its choice as plain data, as written to ``sweep.json``."""
        data: dict[str, Any] = to_plain_json({"schema": "personaprobe-sweep-1", **self.evidence()})
        return data

    def evidence(self) -> dict[str, Any]:
        """The whole map and what was chosen from it, as plain data for the registry."""
        questions, texts = self.grid.questions, self.grid.texts
        return {
            "chosen": asdict(self.chosen),
            "sweep": [asdict(cell) for cell in self.cells],
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
    """The cells that cost little, the one that removes most first.

    Raises:
        DataError: every cell costs more than allowed.
    """
    cheap = [cell for cell in cells if cell.perplexity_ratio <= max_perplexity_ratio]
    if not cheap:
        least = min(cells, key=lambda cell: cell.perplexity_ratio)
        raise DataError(
            f"no direction stays within perplexity × {max_perplexity_ratio}; the least is × {least.perplexity_ratio:.2f} "
            f"({least.source}@{least.layer}, {least.reach}): try other layers, reaches or doses"
        )
    return sorted(cheap, key=lambda cell: -cell.fraction_removed)


def choose(
    trio: Trio[LanguageModel],
    found: Discovery,
    cells: Sequence[Cell],
    grid: Grid,
    bench: Bench,
    bounds: Bounds | None = None,
) -> Choice:
    """Choose the cell that removes most of the shift within the bounds; candidates answer discovery questions.

    Raises:
        DataError: no cell stays within them.
    """
    bounds = bounds or Bounds()
    candidates = allowed(cells, bounds.max_perplexity_ratio)
    if not bounds.answers:
        return Choice(tuple(cells), candidates[0], grid, bounds)
    heard: dict[Cell, Cell] = {}
    for few in _answering(trio, found, candidates, (grid, bounds), bench):
        heard |= few
        fit = [cell for cell in few.values() if (cell.coherence or 0.0) >= bounds.min_coherence]
        if fit:
            return Choice(tuple(heard.get(each, each) for each in cells), fit[0], grid, bounds)
    best = max(heard.values(), key=lambda cell: cell.coherence or 0.0)
    raise DataError(
        f"{len(heard)} directions stay within perplexity × {bounds.max_perplexity_ratio}, but none keeps "
        f"{bounds.min_coherence:.0%} of the coherent answers; the best, {best.source}@{best.layer} ({best.reach}), keeps "
        f"{best.coherence:.0%}: try other layers, reaches or smaller doses"
    )


def _answering(
    trio: Trio[LanguageModel],
    found: Discovery,
    candidates: Sequence[Cell],
    asked: tuple[Grid, Bounds],
    bench: Bench,
) -> Iterator[dict[Cell, Cell]]:
    """A few candidates at a time, and what they are with their share of coherent answers, relative to the untreated's."""
    grid, bounds = asked
    interview = Interview(grid.questions.spread(bounds.answers).prompts, 1, bounds.sampling)
    untreated = Arm("insecure", "insecure", trio.insecure)
    (own,) = answer([untreated], interview, trio.base, bench.memory, bench.progress)
    rule = CoherenceRule.from_untreated(own)
    usual = _share(rule, own)
    if not usual:
        raise DataError(
            "the untreated insecure model gives no coherent answer to be compared with; ask for no answers"
        )
    for start in range(0, len(candidates), AT_ONCE):
        few = candidates[start : start + AT_ONCE]
        arms = [cell.ablated(trio.insecure, found) for cell in few]
        drawn = answer(arms, interview, trio.base, bench.memory, bench.progress)
        yield {
            cell: replace(cell, coherence=_share(rule, responses) / usual)
            for cell, responses in zip(few, drawn, strict=True)
        }


def _share(rule: CoherenceRule, responses: Sequence[Response]) -> float:
    return sum(map(rule.holds, responses)) / len(responses)
