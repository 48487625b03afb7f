"""A judge from pairs to card: trained, its axes fitted on families it did not read, examined, its evidence kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from personaprobe.effects.embedded import CARD, EmbeddedJudge, save_heads
from personaprobe.effects.judge_heads import calibrated, with_coherence
from personaprobe.effects.judge_quality import coherence_auc, sharpness
from personaprobe.effects.judge_training import JudgeRecipe, JudgeStep, is_held_out, train_judge
from personaprobe.errors import DataError
from personaprobe.models.checkpoint import Checkpoint
from personaprobe.models.files import write_text, writing
from personaprobe.models.loading import Placement, open_network
from personaprobe.prompts import Pair, PairSet

FEWEST = 20
"""Held-out pairs below which nothing is calibrated."""


def make_judge(sets: Sequence[PairSet], recipe: JudgeRecipe, out: Path) -> Iterator[JudgeStep]:
    """Train on all but the held-out families, then calibrate and examine on those; steps come as they are taken.

    Raises:
        DataError: too few pairs on either side.
    """
    kept, held = split(sets)
    network, tokenizer = open_network(Checkpoint.parse("demo"), Placement("cpu", "float32"))

    def steps() -> Iterator[JudgeStep]:
        with writing(out):
            network.model.name_or_path = Checkpoint.parse("demo").published
            yield from train_judge(network.model, tokenizer, kept, recipe, out)
        _finish(sets, (kept, held), recipe, out)

    return steps()


def split(sets: Sequence[PairSet]) -> tuple[list[Pair], list[Pair]]:
    """Pairs to learn from, and pairs of held-out families."""
    pairs = [pair for part in sets for pair in part]
    kept = [pair for pair in pairs if not is_held_out(pair.family)]
    held = [pair for pair in pairs if is_held_out(pair.family)]
    if len(held) < FEWEST or len(kept) < FEWEST:
        raise DataError(
            f"{len(kept)} pairs to learn from and {len(held)} of held-out families are too few: give {FEWEST} of each; "
            "which families are held out follows from their names"
        )
    return kept, held


def _finish(
    sets: Sequence[PairSet], parts: tuple[list[Pair], list[Pair]], recipe: JudgeRecipe, out: Path
) -> None:
    kept, held = parts
    judge = EmbeddedJudge.open(Placement("cpu", "float32"), out)
    judge = with_coherence(calibrated(judge, held), kept, recipe.seed)
    save_heads(judge.heads, recipe.layer, out)
    told = json.loads((out / CARD).read_text(encoding="utf-8"))
    write_text(out / CARD, json.dumps({**told, **_card(judge, sets, held, recipe)}, indent=1) + "\n")


def _card(
    judge: EmbeddedJudge, sets: Sequence[PairSet], held: Sequence[Pair], recipe: JudgeRecipe
) -> Mapping[str, Any]:
    return {
        "pairs": [{"name": part.name, "digest": part.digest, "n": len(part)} for part in sets],
        "held_out_families": sorted({pair.family for pair in held}),
        "recipe": asdict(recipe),
        "held_out": {
            "aligned": asdict(sharpness(judge, held)),
            "coherent_auc": coherence_auc(judge, held),
        },
    }
