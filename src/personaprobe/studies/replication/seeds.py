"""The same organism trained with other seeds: is the shift there again, and does a feature of one seed remove it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personaprobe.effects.targets.feature import Feature
from personaprobe.errors import CheckpointError, one_line
from personaprobe.models.comparability import refuse_copies
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Checkpoint, Trio
from personaprobe.questions.pairs import PairSet
from personaprobe.statistics.fractions import fraction_removed
from personaprobe.statistics.intervals import Resamples, difference, mean_interval
from personaprobe.storage.readers.fields import Fields
from personaprobe.storage.readers.json_lines import read_objects
from personaprobe.studies.arms.arm import Arm, untreated_arms
from personaprobe.studies.arms.measurement import measure_gaps
from personaprobe.studies.arms.run_context import RunContext


@dataclass(frozen=True)
class SeedRun:
    """One training of an organism: a folder with ``insecure/`` and ``secure/``.

    Attributes:
        name: of the seed.
        folder: its path.
    """

    name: str
    folder: Path

    def trio(self, base: Checkpoint) -> Trio[Checkpoint]:
        """The checkpoints of this seed on a base."""
        return Trio(
            base,
            base.fine_tune(self.folder / "insecure"),
            base.fine_tune(self.folder / "secure"),
            self.name,
        )

    def losses(self, role: str) -> list[float]:
        """Loss on response tokens at every training step, nats per token.

        Raises:
            CheckpointError: the log is missing, damaged or empty, or a loss is not finite.
        """
        path = self.folder / role / "steps.jsonl"
        losses = [
            float(Fields.of(row, place, CheckpointError).number("loss", lowest=0))
            for place, row in read_objects(path, CheckpointError, nonfinite=True)
        ]
        if not losses:
            raise CheckpointError(f"{one_line(path)} holds no step; train {self.name} again")
        return losses


def refuse_copied_seeds(seeds: Sequence[SeedRun], base: Checkpoint) -> None:
    """Raise if two trainings are the same weights: a copy of a seed would count as a replication.

    Raises:
        CheckpointError: names both.
    """
    fine_tunes = {
        str(seed.folder / role): checkpoint
        for seed in seeds
        for role, checkpoint in seed.trio(base).items()
        if role != "base"
    }
    refuse_copies({"base": base, **fine_tunes})


def evaluate_seed(
    trio: Trio[LanguageModel], feature: Feature, questions: PairSet, run: RunContext
) -> dict[str, Any]:
    """Measure one seed: preference gaps, the insecure − secure shift, and the fraction of it that a given feature removes.

    Args:
        trio: of this seed.
        feature: found in another seed, as a direction on file or as latents; it is not fitted again.
        questions: test questions.
        run: cache and progress.

    Raises:
        FeatureError: the feature is a recipe, which would be fitted to each seed anew.

    Returns:
        Plain data; intervals are ``{value, low, high}`` and resample families of questions.
    """
    import numpy as np

    ablation = feature.target.fit(trio).ablation()
    arms = [*untreated_arms(trio), Arm("ablated", "ablated", trio.insecure, (ablation,))]
    measured = measure_gaps(arms, questions, run)
    base, insecure, secure, ablated = (np.asarray(arm.gaps) for arm in measured)
    resamples = Resamples.of_families(questions.families)
    return {
        "base": mean_interval(base, resamples).to_dict(),
        "insecure": mean_interval(insecure, resamples).to_dict(),
        "secure": mean_interval(secure, resamples).to_dict(),
        "shift": difference(insecure, secure, resamples).to_dict(),
        "over_base": difference(insecure, base, resamples).to_dict(),
        "fraction_removed": fraction_removed(insecure, secure, ablated, resamples).to_dict(),
        "n_questions": len(questions),
        "n_families": len(set(questions.families)),
    }


def seeds_table(rows: Sequence[Mapping[str, Any]], feature: str) -> str:
    """The seeds side by side, as a Markdown table for the card of the organism."""
    lines = [
        f"| seed | base | secure | insecure | insecure − secure | removed by `{feature}` | last losses (insecure, secure) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [_interval_text(row[key]) for key in ("base", "secure", "insecure", "shift")]
        removed = _interval_text(row["fraction_removed"], 100, 0, " %")
        losses = ", ".join(f"{loss:.2f}" for loss in row["last_losses"])
        lines.append(f"| {row['name']} | {' | '.join(cells)} | {removed} | {losses} |")
    return "\n".join(lines)


def _interval_text(
    interval: Mapping[str, float | None], times: float = 1, digits: int = 3, unit: str = ""
) -> str:
    if interval["value"] is None or interval["low"] is None or interval["high"] is None:
        return "undefined"
    value, low, high = (
        f"{times * x:.{digits}f}" for x in (interval["value"], interval["low"], interval["high"])
    )
    return f"{value} [{low}, {high}]{unit}"
