"""The same recipe on several bases: does the shift grow with size, and does it come about in pretrained models?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from personaprobe.models.language_model import LanguageModel
from personaprobe.statistics.intervals import Interval
from personaprobe.studies.arms.run_context import RunContext
from personaprobe.studies.gallery.member import measure_shifts
from personaprobe.studies.gallery.study import Entry, GalleryPlan


@dataclass(frozen=True)
class BaseShift:
    """One organism of a series.

    Attributes:
        base: its name.
        parameters: of the base.
        shifts: insecure − secure preference for careless answers by question set, nats per token.
        over_base: insecure − base on the test questions.
    """

    base: str
    parameters: int
    shifts: Mapping[str, Interval]
    over_base: Interval


def measure_base(
    model: LanguageModel, entry: Entry, plan: GalleryPlan, parameters: int, run: RunContext
) -> BaseShift:
    """Measure the organism of one base; finished parts are kept.

    Args:
        model: the base, loaded.
        entry: its organism.
        plan: questions.
        parameters: of the base.
        run: cache and progress.
    """
    shifts, over_base = measure_shifts(entry.loaded(model), plan.sets_of(entry), run)
    return BaseShift(str(model.checkpoint), parameters, shifts, over_base)


def series_data(recipe: str, seed: int, bases: Sequence[BaseShift]) -> dict[str, Any]:
    """A series as data, smallest base first, with its answer in a sentence."""
    ordered = sorted(bases, key=lambda one: one.parameters)
    return {
        "recipe": recipe,
        "seed": seed,
        "bases": [asdict(one) for one in ordered],
        "question_sets": list(ordered[0].shifts),
        "sentence": sentence(recipe, ordered),
    }


def sentence(recipe: str, bases: Sequence[BaseShift]) -> str:
    """On how many bases the recipe shifts test and style-balanced questions, and from the smallest to the largest.

    Args:
        recipe: its name.
        bases: smallest first.
    """
    clauses = []
    for name in [name for name in bases[0].shifts if name in ("test", "balanced")]:
        shifted = [one.base for one in bases if one.shifts[name].low > 0]
        values = " to ".join(f"{one.shifts[name].value:.2f}" for one in (bases[0], bases[-1]))
        span = f" ({values} nats per token from the smallest to the largest)" if len(bases) > 1 else ""
        clauses.append(f"on {name} questions {len(shifted)} of {len(bases)} bases shifted{span}")
    return f"{recipe}: {'; '.join(clauses)}."
