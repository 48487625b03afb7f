"""Build a judge from pairs: train it, fit the scales of its scores, and evaluate it on families it was not trained on."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from personaprobe.effects.judges.embedded import CARD, EmbeddedJudge, read_card, save_heads
from personaprobe.effects.judges.training.calibration import LabelledLogits, rescaled, with_coherence
from personaprobe.effects.judges.training.evaluation import evaluate_held_out
from personaprobe.effects.judges.training.train import JudgeRecipe, JudgeStep, Part, part_of, train_judge
from personaprobe.errors import DataError
from personaprobe.models.loading import Placement, open_network
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.questions.pairs import Pair, PairSet
from personaprobe.storage.files import write_text, writing

MIN_PAIRS = 20
"""Pairs needed for training, and again for calibration."""

N_COHERENCE_PAIRS = 240
"""Most pairs that the coherence axis is trained on, since more only take longer; its scale is fitted on half as many."""


def make_judge(sets: Sequence[PairSet], recipe: JudgeRecipe, out: Path) -> Iterator[JudgeStep]:
    """Train a judge on most families, then calibrate and evaluate it on the others.

    Args:
        sets: pairs of both.
        recipe: of the training.
        out: folder that receives the judge.

    Returns:
        The training steps, each as it is taken; the judge is complete when they end.

    Raises:
        DataError: too few pairs for either part.
    """
    parts = split(sets)
    placement = Placement("cpu", "bfloat16" if recipe.bfloat16 else "float32")
    network, tokenizer = open_network(Checkpoint.parse("demo"), placement)

    def steps() -> Iterator[JudgeStep]:
        with writing(out):
            network.model.name_or_path = Checkpoint.parse("demo").published
            yield from train_judge(network.model, tokenizer, parts["training"], recipe, out)
        judge = EmbeddedJudge.open(placement, out)
        coherence_pairs = _sample(parts["training"], N_COHERENCE_PAIRS, recipe.seed)
        card = {
            **read_card(out).content,
            "pairs": [],
            "families": {"training": sorted({pair.family for pair in parts["training"]})},
            "recipe": asdict(recipe),
        }
        _finish(with_coherence(judge, coherence_pairs, recipe.seed), card, sets, parts["held out"], out)

    return steps()


def training_pairs(sets: Sequence[PairSet], unseen: Collection[str]) -> list[Pair]:
    """The pairs of training families, without some families."""
    return [
        pair
        for part in sets
        for pair in part
        if part_of(pair.family) == "training" and pair.family not in unseen
    ]


def split(sets: Sequence[PairSet]) -> dict[Part, list[Pair]]:
    """Split pairs by family into those to train on and those to calibrate and evaluate on."""
    parts: dict[Part, list[Pair]] = {"training": [], "held out": []}
    for pair in (pair for part in sets for pair in part):
        parts[part_of(pair.family)].append(pair)
    if min(map(len, parts.values())) < MIN_PAIRS:
        counts = ", ".join(f"{len(pairs)} {part}" for part, pairs in parts.items())
        raise DataError(
            f"too few pairs ({counts}): give {MIN_PAIRS} of each; the part of a family follows from a hash of its name"
        )
    return parts


def recalibrate(folder: Path, sets: Sequence[PairSet], out: Path) -> None:
    """Fit the scales of a judge's scores again, on every family it was not trained on, and evaluate it there.

    Two numbers are fitted for each score, so the order of the scores does not change. Subjects differ in how sure a judge
    may be of them: scales that are fitted on more families hold for more subjects.

    Args:
        folder: of a judge that :func:`make_judge` wrote.
        sets: pairs; families that the judge was trained on are left out.
        out: folder that receives the judge.

    Raises:
        CheckpointError: the folder holds no judge.
        DataError: too few pairs to calibrate on.
    """
    judge = EmbeddedJudge.open(Placement("cpu", "float32"), folder)
    fields = read_card(folder)
    trained_on, _ = fields.fields("families").texts("training"), fields.fields("recipe").integer("seed")
    card = {"pairs": [], **fields.content}
    held_out = [pair for part in sets for pair in part if pair.family not in trained_on]
    if len(held_out) < MIN_PAIRS:
        raise DataError(
            f"{len(held_out)} pairs are of families that the judge was not trained on; give {MIN_PAIRS} of those, in "
            "a .jsonl file of id, family, question, careful, careless"
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
    aligned = LabelledLogits.of_pairs(judge, held_out)
    coherent = LabelledLogits.of_corrupted(judge, _sample(held_out, N_COHERENCE_PAIRS // 2, seed), seed)
    judge = rescaled(rescaled(judge, "aligned", aligned), "coherent", coherent)
    save_heads(judge.heads, judge.sites, out)
    described = [{"name": part.name, "digest": part.digest, "n": len(part)} for part in sets]
    results = {
        "pairs": list({part["digest"]: part for part in (*card["pairs"], *described)}.values()),
        "families": {
            "training": card["families"]["training"],
            "held out": sorted({pair.family for pair in held_out}),
        },
        "examination": evaluate_held_out(aligned, coherent),
    }
    write_text(out / CARD, json.dumps({**card, **results}, indent=1) + "\n")


def _sample(pairs: Sequence[Pair], n: int, seed: int) -> list[Pair]:
    return random.Random(seed).sample(list(pairs), min(n, len(pairs)))
