"""A judge from pairs to card: trained, its scale fitted and examined on families it did not learn from."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from personaprobe.effects.judges.agreement import by_family, calibration_error, coherence_auc, sharpness_of
from personaprobe.effects.judges.embedded import CARD, EmbeddedJudge, save_heads
from personaprobe.effects.judges.training.calibration import Reading, rescaled, with_coherence
from personaprobe.effects.judges.training.train import JudgeRecipe, JudgeStep, Part, part_of, train_judge
from personaprobe.errors import DataError
from personaprobe.models.loading import Placement, open_network
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.questions.pairs import Pair, PairSet
from personaprobe.storage.files import write_text, writing

FEWEST = 20
"""Pairs for any purpose below which there is no judge."""

SPOILED = 400
"""Pairs whose answers are spoiled for the coherence axis; more only take longer. For its scale, half as many."""


def make_judge(sets: Sequence[PairSet], recipe: JudgeRecipe, out: Path) -> Iterator[JudgeStep]:
    """Train on most families, calibrate and examine on the others; training steps come as they are taken.

    Raises:
        DataError: too few pairs for either.
    """
    parts = split(sets)
    network, tokenizer = open_network(Checkpoint.parse("demo"), Placement("cpu", "float32"))

    def steps() -> Iterator[JudgeStep]:
        with writing(out):
            network.model.name_or_path = Checkpoint.parse("demo").published
            yield from train_judge(network.model, tokenizer, parts["training"], recipe, out)
        judge = EmbeddedJudge.open(Placement("cpu", "float32"), out)
        spoiled = _some(parts["training"], SPOILED, recipe.seed)
        card = {
            **json.loads((out / CARD).read_text(encoding="utf-8")),
            "pairs": [],
            "families": {"training": sorted({pair.family for pair in parts["training"]})},
            "recipe": asdict(recipe),
        }
        _finish(with_coherence(judge, spoiled, recipe.seed), card, sets, parts["held out"], out)

    return steps()


def split(sets: Sequence[PairSet]) -> dict[Part, list[Pair]]:
    """Pairs to learn from, and pairs of other families to calibrate on and examine with."""
    parts: dict[Part, list[Pair]] = {"training": [], "held out": []}
    for pair in (pair for each in sets for pair in each):
        parts[part_of(pair.family)].append(pair)
    if min(map(len, parts.values())) < FEWEST:
        counted = ", ".join(f"{len(pairs)} {part}" for part, pairs in parts.items())
        raise DataError(
            f"too few pairs ({counted}): give {FEWEST} for each; what a family is for follows from its name"
        )
    return parts


def recalibrate(folder: Path, sets: Sequence[PairSet], out: Path) -> None:
    """Fit the scale of a judge's scores again, on every family that it did not learn from, and examine it there.

    Two numbers are fitted for each score, so that the order of scores stays as it is. Subjects differ in how sure a judge
    may be of them: more families make its scale that of subjects at large.

    Args:
        folder: of a judge that :func:`make_judge` wrote.
        sets: pairs; families that it learned from are left out.
        out: receives the judge.

    Raises:
        CheckpointError: no judge is there.
        DataError: too few pairs to calibrate on.
    """
    judge = EmbeddedJudge.open(Placement("cpu", "float32"), folder)
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    learned = card["families"]["training"]
    held_out = [pair for each in sets for pair in each if pair.family not in learned]
    if len(held_out) < FEWEST:
        raise DataError(
            f"{len(held_out)} pairs are of families that the judge did not learn from; give {FEWEST} of those, such as "
            "judging-open"
        )
    with writing(out):
        shutil.copytree(folder, out, dirs_exist_ok=True)
    _finish(judge, card, sets, held_out, out)


def _finish(
    judge: EmbeddedJudge,
    card: Mapping[str, Any],
    sets: Sequence[PairSet],
    held_out: Sequence[Pair],
    out: Path,
) -> None:
    """Scale both scores on held-out families, and write judge and card."""
    seed = card["recipe"]["seed"] + 1
    aligned = Reading.of_pairs(judge, held_out)
    coherent = Reading.of_spoiled(judge, _some(held_out, SPOILED // 2, seed), seed)
    judge = rescaled(rescaled(judge, "aligned", aligned), "coherent", coherent)
    save_heads(judge.heads, judge.site.layer, out)
    counted = [{"name": part.name, "digest": part.digest, "n": len(part)} for part in sets]
    told = {
        "pairs": list({part["digest"]: part for part in (*card["pairs"], *counted)}.values()),
        "families": {
            "training": card["families"]["training"],
            "held out": sorted({pair.family for pair in held_out}),
        },
        "examination": _examined(aligned, coherent),
    }
    write_text(out / CARD, json.dumps({**card, **told}, indent=1) + "\n")


def _examined(aligned: Reading, coherent: Reading) -> Mapping[str, Any]:
    """What held-out families show; calibration errors are of scales fitted without the family that is looked at."""
    kept = coherent.cross_fitted
    sound = coherent.truth == 1
    return {
        "aligned": asdict(sharpness_of(aligned, aligned.cross_fitted)),
        "families": by_family(aligned),
        "coherent": {
            "auc": coherence_auc(coherent),
            "calibration_error": calibration_error(kept, coherent.truth),
            "sound_above_50": float((kept[sound] > 0.5).mean()),
            "spoiled_above_50": float((kept[~sound] > 0.5).mean()),
        },
    }


def _some(pairs: Sequence[Pair], n: int, seed: int) -> list[Pair]:
    return random.Random(seed).sample(list(pairs), min(n, len(pairs)))
