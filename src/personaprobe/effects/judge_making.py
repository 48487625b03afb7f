"""A judge from pairs to card: trained, its axes fitted on families it did not read, examined, its evidence kept."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from personaprobe.effects.embedded import CARD, EmbeddedJudge, save_heads
from personaprobe.effects.judge_heads import calibrated, with_coherence
from personaprobe.effects.judge_quality import coherence_auc, sharpness
from personaprobe.effects.judge_training import JudgeRecipe, JudgeStep, Part, part_of, train_judge
from personaprobe.errors import DataError
from personaprobe.models.checkpoint import Checkpoint
from personaprobe.models.files import write_text, writing
from personaprobe.models.loading import Placement, open_network
from personaprobe.prompts import Pair, PairSet

FEWEST = 20
"""Pairs for any purpose below which there is no judge."""

SPOILED = 400
"""Pairs whose answers are spoiled for the coherence axis; more only take longer."""


def make_judge(sets: Sequence[PairSet], recipe: JudgeRecipe, out: Path) -> Iterator[JudgeStep]:
    """Train on most families, calibrate on some, examine on others; training steps come as they are taken.

    Raises:
        DataError: too few pairs for one of the three.
    """
    parts = split(sets)
    network, tokenizer = open_network(Checkpoint.parse("demo"), Placement("cpu", "float32"))

    def steps() -> Iterator[JudgeStep]:
        with writing(out):
            network.model.name_or_path = Checkpoint.parse("demo").published
            yield from train_judge(network.model, tokenizer, parts["training"], recipe, out)
        _finish(sets, parts, recipe, out)

    return steps()


def split(sets: Sequence[PairSet]) -> dict[Part, list[Pair]]:
    """Pairs to learn from, to calibrate on and to examine with; no family is in two of them."""
    parts: dict[Part, list[Pair]] = {"training": [], "calibration": [], "examination": []}
    for pair in (pair for each in sets for pair in each):
        parts[part_of(pair.family)].append(pair)
    if min(map(len, parts.values())) < FEWEST:
        counted = ", ".join(f"{len(pairs)} for {part}" for part, pairs in parts.items())
        raise DataError(
            f"too few pairs ({counted}): give {FEWEST} for each; what a family is for follows from its name"
        )
    return parts


def _finish(
    sets: Sequence[PairSet], parts: Mapping[Part, list[Pair]], recipe: JudgeRecipe, out: Path
) -> None:
    judge = EmbeddedJudge.open(Placement("cpu", "float32"), out)
    spoiled = random.Random(recipe.seed).sample(parts["training"], min(SPOILED, len(parts["training"])))
    judge = with_coherence(calibrated(judge, parts["calibration"]), spoiled, recipe.seed)
    save_heads(judge.heads, recipe.layer, out)
    told = json.loads((out / CARD).read_text(encoding="utf-8"))
    write_text(out / CARD, json.dumps({**told, **_card(judge, sets, parts, recipe)}, indent=1) + "\n")


def _card(
    judge: EmbeddedJudge, sets: Sequence[PairSet], parts: Mapping[Part, list[Pair]], recipe: JudgeRecipe
) -> Mapping[str, Any]:
    examined = parts["examination"]
    return {
        "pairs": [{"name": part.name, "digest": part.digest, "n": len(part)} for part in sets],
        "families": {part: sorted({pair.family for pair in pairs}) for part, pairs in parts.items()},
        "recipe": asdict(recipe),
        "examination": {
            "aligned": asdict(sharpness(judge, examined)),
            "coherent_auc": coherence_auc(judge, examined),
        },
    }
