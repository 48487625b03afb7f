"""Training steps of dictionaries: personaprobe beside SAELens' trainer and sparsify's coder, interleaved in one run.

    python -m tests.benchmarks.dictionaries                       # on this machine
    python -m tests.benchmarks.dictionaries --device cuda --d-in 2048 --d-sae 16384

All sides take whole steps (forward, backward, gradient clipping or projection, Adam, bookkeeping of dead latents) on the
same rows, from the same shapes. That their losses agree is a law of the test suite.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import torch
from tests.benchmarks.keeping import keep

from personaprobe.features.sae.architectures import Architecture, BatchTopKArchitecture, TopKArchitecture
from personaprobe.features.sae.training import SAERecipe, Trainee
from personaprobe.models.hardware import keep_freed_memory


def main() -> None:
    options = arguments()
    if options.keep_freed_memory:
        keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(8, options.rows, options.d_in, generator=generator).to(options.device)
    result: dict[str, Any] = {}
    for name, architecture in architectures(options.k).items():
        contenders = {"personaprobe": ours(architecture, rows, options)}
        if isinstance(architecture, TopKArchitecture):
            rough = replace(architecture, spare=options.spare)
            contenders["personaprobe, preselected in bfloat16"] = ours(rough, rows, options)
        contenders |= {
            f"SAELens{', sparse activations' if sparse else ''}": saelens(name, rows, options, sparse)
            for sparse in variants(name, options.device)
        }
        if name == "topk" and find_spec("sparsify"):
            contenders["sparsify"] = sparsify(rows, options)
        result[name] = timed(contenders, options.rounds)
    shape = {
        key: getattr(options, key) for key in ("rows", "d_in", "d_sae", "k", "spare", "keep_freed_memory")
    }
    keep("dictionaries", options.device, {"shape": shape, "milliseconds a step": result})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--d-in", type=int, default=576)
    parser.add_argument("--d-sae", type=int, default=4608)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--spare", type=int, default=12, help="latents beyond k that are preselected")
    parser.add_argument(
        "--keep-freed-memory", action="store_true", help="as the command line does, for all contenders"
    )
    parser.add_argument("--rounds", type=int, default=31)
    return parser.parse_args()


def variants(name: str, device: str) -> tuple[bool, ...]:
    """Whether SAELens keeps activations sparse: its TopK can, on a GPU; its training step does not run so on a CPU."""
    return (False, True) if name == "topk" and device != "cpu" else (False,)


def architectures(k: int) -> dict[str, Architecture]:
    return {"topk": TopKArchitecture(k), "batchtopk": BatchTopKArchitecture(k)}


def ours(
    architecture: Architecture, rows: torch.Tensor, options: argparse.Namespace
) -> Callable[[int], object]:
    recipe = SAERecipe(architecture, d_sae=options.d_sae, steps=100_000)
    trainee = Trainee(recipe, rows[0].cpu(), options.device)
    return lambda step: trainee.learn(rows[step % len(rows)])


def saelens(
    name: str, rows: torch.Tensor, options: argparse.Namespace, sparse: bool
) -> Callable[[int], object]:
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.registry import get_sae_training_class
    from sae_lens.training.sae_trainer import SAETrainer

    kind, config = get_sae_training_class(name)
    given = {"use_sparse_activations": True} if sparse else {}
    sae = kind(config(d_in=options.d_in, d_sae=options.d_sae, k=options.k, device=options.device, **given))
    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=100_000 * options.rows,
            train_batch_size_samples=options.rows,
            device=options.device,
            lr_end=3e-5,
            logger=LoggingConfig(log_to_wandb=False),
        ),
        sae,
        iter(()),
    )
    return lambda step: trainer._train_step(sae=sae, sae_in=rows[step % len(rows)])


def sparsify(rows: torch.Tensor, options: argparse.Namespace) -> Callable[[int], object]:
    """A step as sparsify's trainer takes it: unit norm, forward, backward, projection, Adam, and who fired."""
    if options.device == "cpu":  # where it would take Triton's presence for that of a GPU
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
    from sparsify import SparseCoder, SparseCoderConfig

    coder = SparseCoder(
        options.d_in, SparseCoderConfig(num_latents=options.d_sae, k=options.k), device=options.device
    )
    optimizer = torch.optim.Adam(coder.parameters(), lr=1e-3)
    idle = torch.zeros(options.d_sae, dtype=torch.long, device=options.device)

    def step(number: int) -> None:
        coder.set_decoder_norm_to_unit_norm()
        out = coder(rows[number % len(rows)], dead_mask=idle > 10_000_000)
        (out.fvu + out.auxk_loss / 32).backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        idle.add_(options.rows)[out.latent_indices.flatten()] = 0

    return step


def timed(contenders: dict[str, Callable[[int], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Median milliseconds a step, the contenders taking turns; the first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for step in range(rounds + 1):
        for name, run in contenders.items():
            started = time.perf_counter()
            run(step)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken[name].append(1e3 * (time.perf_counter() - started))
    median = {name: statistics.median(times[1:]) for name, times in taken.items()}
    return {
        name: {"median": round(value, 1), "times ours": round(value / median["personaprobe"], 2)}
        for name, value in median.items()
    }


if __name__ == "__main__":
    main()
