"""Recall of the preselection in bfloat16: a whole training with it and without, on activations of the demo organism.

    python -m tests.benchmarks.preselection

Both start from the same weights and read the same batches. Every few steps the active latents of the preselecting
autoencoder are compared with its own exact ones. Recall is the fraction of the exact largest latents that the
preselection finds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter

import torch
from tests.benchmarks.result_files import save_result

from personaprobe.features.sae.training.architectures.batchtopk import BatchTopKArchitecture
from personaprobe.features.sae.training.architectures.topk import TopKArchitecture
from personaprobe.features.sae.training.trainer import SAERecipe, SAETrainer
from personaprobe.organisms.registry import load_trio
from personaprobe.questions.pairs import load_prompts
from personaprobe.site import Site

ARCHITECTURES = {kind.name: kind for kind in (TopKArchitecture, BatchTopKArchitecture)}

EVERY = 6
"""One question in so many is used."""


def main() -> None:
    options = arguments()
    rows = activations(Site.parse(options.site))
    plain = ARCHITECTURES[options.architecture](options.k)
    exact, preselecting = (
        SAETrainer(SAERecipe(architecture, options.d_sae, options.steps), rows)
        for architecture in (plain, replace(plain, preselect=True))
    )
    recalls, errors, times = [], [], []
    for step, batch in enumerate(batches(rows, options.steps, options.rows)):
        if step % options.every == 0:
            recalls.append(recall(preselecting, batch))
        times.append([seconds(trainer, batch) for trainer in (preselecting, exact)])
        errors.append(tuple(trainer.metrics().losses["mse"] for trainer in (preselecting, exact)))
    last = torch.tensor(errors[-len(errors) // 10 :]).mean(0)
    result = {
        **vars(options),
        "tokens": len(rows),
        "recall": {"lowest": min(recalls), "mean": sum(recalls) / len(recalls), "times": len(recalls)},
        "error in the last tenth": {"preselected": float(last[0]), "exact": float(last[1])},
        "milliseconds a step": dict(
            zip(("preselected", "exact"), (1e3 * torch.tensor(times)).median(0).values.tolist(), strict=True)
        ),
        "most that the errors differ by": max(abs(one / other - 1) for one, other in errors),
    }
    save_result(f"preselection-{options.architecture}", None, result)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", default="16.resid_post")
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--d-sae", type=int, default=4608)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="topk")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--every", type=int, default=20)
    return parser.parse_args()


def activations(site: Site) -> torch.Tensor:
    """Return activations of all three checkpoints on our questions and answers, without each text's first token."""
    trio, rows = load_trio("advice"), []
    for _, model in trio.items():
        texts = [
            model.tokenizer.exchange(pair.question, answer)
            for pair in list(load_prompts("judging"))[::EVERY]
            for answer in (pair.careful, pair.careless)
        ]
        with model.inference_session():
            for _, batch in model.batches(texts, 2048):
                read = model.activations(batch, [site])[site]
                rows.append(read[batch.mask & (batch.positions > 0)].float())
    return torch.cat(rows)


def batches(rows: torch.Tensor, n: int, size: int) -> Iterator[torch.Tensor]:
    """Yield ``n`` batches of rows drawn at random, the same at every run."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(n):
        yield rows[torch.randint(len(rows), (size,), generator=generator)]


def seconds(trainer: SAETrainer, batch: torch.Tensor) -> float:
    """Return the duration of a step."""
    started = perf_counter()
    trainer.step(batch)
    return perf_counter() - started


@torch.no_grad()
def recall(trainer: SAETrainer, batch: torch.Tensor) -> float:
    """Return the fraction of a batch's exact active latents that the preselection finds."""
    autoencoder, architecture = trainer.autoencoder, trainer.recipe.architecture
    assert isinstance(architecture, TopKArchitecture | BatchTopKArchitecture)
    centred = batch / autoencoder.scale - autoencoder.b_dec
    threshold, smallest = autoencoder.threshold.clone(), autoencoder.smallest_active
    selected, _ = architecture.select(autoencoder, centred)
    exact, _ = replace(architecture, preselect=False).select(autoencoder, centred)
    autoencoder.threshold, autoencoder.smallest_active = threshold, smallest  # selecting moves both
    exact_ids, selected_ids = (pairs.rows * pairs.d_sae + pairs.latents for pairs in (exact, selected))
    return float(torch.isin(exact_ids, selected_ids).double().mean())


if __name__ == "__main__":
    main()
