"""Cost against size: recording by tokens, generation by arms, scoring by edited layers, a training step by latents.

    python -m tests.benchmarks.scaling

Each point is the fastest of a few runs on the demo model. A line is fitted to each workload, and its R² reported.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from tests.benchmarks.result_files import save_result

from personaprobe.features.sae.training.architectures.topk import TopKArchitecture
from personaprobe.features.sae.training.trainer import SAERecipe, SAETrainer
from personaprobe.models.edits.edit import EditPlan
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import Placement, load
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.questions.pairs import load_prompts
from personaprobe.site import Site
from personaprobe.studies.speed.recording import RECORDING_TOKENS
from personaprobe.studies.speed.reference import NO_END
from personaprobe.studies.speed.texts import chats, scored_answers
from personaprobe.studies.speed.workloads import (
    ANSWERS_PER_ARM,
    NEW_TOKENS,
    batched_answers,
    forked_scores,
    random_ablation,
)

ROWS, D_IN, K = 2048, 576, 32

Points = Iterator[tuple[float, Callable[[], object]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    model = load(Checkpoint("demo"), Placement(options.device, options.dtype))
    works: Mapping[str, Points] = {
        "recording: tokens": recording(model),
        "generation: arms": arms(model),
        "scoring: edited layers": layers(model),
        "training step: latents": latents(options.device or "cpu"),
    }
    result: dict[str, Any] = {"dtype": str(model.network.dtype), "works": {}}
    for name, points in works.items():
        result["works"][name] = line(*zip(*best(points, options.rounds), strict=True))
        save_result("scaling", options.device, result)


def best(points: Points, rounds: int) -> Iterable[tuple[float, float]]:
    """Return the size of each run and its shortest time; sizes take turns, so that a slow minute slows all of them."""
    runs = list(points)
    seconds: dict[float, list[float]] = {size: [] for size, _ in runs}
    for _ in range(rounds):
        for size, run in runs:
            started = time.perf_counter()
            run()
            seconds[size].append(time.perf_counter() - started)
    return [(size, min(times)) for size, times in seconds.items()]


def line(sizes: Sequence[float], seconds: Sequence[float]) -> dict[str, Any]:
    """Fit a line to the points; returns the points, the line, and its R²."""
    slope, start = np.polyfit(sizes, seconds, 1)
    residuals = np.array(seconds) - (slope * np.array(sizes) + start)
    r2 = 1 - float((residuals**2).sum() / ((np.array(seconds) - np.mean(seconds)) ** 2).sum())
    rounded = [round(value, 4) for value in seconds]
    return {
        "sizes": list(sizes),
        "seconds": rounded,
        "a piece": float(slope),
        "fixed": float(start),
        "R2": round(r2, 4),
    }


def recording(model: LanguageModel) -> Points:
    texts, site = chats(model), Site(model.n_layers // 2 - 1)
    for n in (8, 16, 32, 64):
        subset = texts[:: len(texts) // n][:n]
        batches = [batch for _, batch in model.batches(subset, RECORDING_TOKENS)]
        yield sum(map(len, subset)), lambda batches=batches: [model.activations(b, [site]) for b in batches]  # type: ignore[misc]


def arms(model: LanguageModel) -> Points:
    asks = load_prompts("advice/test").spread(ANSWERS_PER_ARM).prompts
    prompts = [model.tokenizer.prompt(ask.question) for ask in asks]
    edits = [EditPlan.compose([random_ablation(model, seed)], model.n_layers) for seed in range(10)]
    for n in (1, 2, 5, 10):
        yield n, lambda n=n: batched_answers(model, prompts, NEW_TOKENS // 2, NO_END, edits[:n])  # type: ignore[misc]


def layers(model: LanguageModel) -> Points:
    forks = scored_answers(model)[:8]
    for n in (0, 10, 20, 30):
        edited_layers = tuple(range(model.n_layers))[:n]
        edited = model.edited(*[random_ablation(model, layers=edited_layers)] if n else [])
        yield n, lambda edited=edited: forked_scores(edited, forks)  # type: ignore[misc]


def latents(device: str) -> Points:
    rows = torch.randn(ROWS, D_IN, generator=torch.Generator().manual_seed(0)).to(device)
    for d_sae in (2048, 4096, 8192, 16384):
        recipe = SAERecipe(TopKArchitecture(K), d_sae=d_sae, steps=100_000)
        trainer = SAETrainer(recipe, rows.cpu(), device)
        trainer.step(rows)
        yield d_sae, lambda trainer=trainer: trainer.step(rows)  # type: ignore[misc]


if __name__ == "__main__":
    main()
