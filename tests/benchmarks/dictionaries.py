"""Training steps of dictionaries: personaprobe beside SAELens' trainer and sparsify's coder, interleaved in one run.

    python -m tests.benchmarks.dictionaries                       # on this machine
    python -m tests.benchmarks.dictionaries --device cuda --d-in 2048 --d-sae 16384

All sides take whole steps (forward, backward, gradient clipping or projection, Adam, bookkeeping of dead latents) on the
same rows, from the same shapes, a few steps in turn, as training takes them. That their losses agree is a law of the test
suite; that gradients are those of dense autograd is told with the results.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.util import find_spec
from itertools import cycle

import torch
from tests.benchmarks.keeping import keep

from personaprobe.compute.hardware import keep_freed_memory
from personaprobe.features.sae.training.architectures.architecture import Architecture
from personaprobe.features.sae.training.architectures.batchtopk import BatchTopKArchitecture
from personaprobe.features.sae.training.architectures.topk import TopKArchitecture
from personaprobe.features.sae.training.trainer import SAERecipe, SAETrainer
from personaprobe.studies.speed.timing import Work, measure

STEPS = 4
"""Steps that a contender takes before it is the next one's turn."""


def main() -> None:
    options = arguments()
    if options.keep_freed_memory:
        keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(8, options.rows, options.d_in, generator=generator).to(options.device)
    measured = [measure(work(name, rows, options), options.rounds) for name in ("topk", "batchtopk")]
    shape = {key: getattr(options, key) for key in ("rows", "d_in", "d_sae", "k", "keep_freed_memory")}
    told = {"shape": shape, "rounds": options.rounds, "works": [asdict(each) for each in measured]}
    keep("dictionaries", options.device, told)


def work(name: str, rows: torch.Tensor, options: argparse.Namespace) -> Work:
    """A training step, SAELens' own being the reference."""
    architecture = {"topk": TopKArchitecture, "batchtopk": BatchTopKArchitecture}[name](options.k)
    steps = {
        f"SAELens{', sparse activations' if sparse else ''}": saelens(name, rows, options, sparse)
        for sparse in variants(name, options.device)
    }
    trainer = new(architecture, rows, options)
    steps["personaprobe"] = trainer.step
    preselecting = new(replace(architecture, preselect=True), rows, options)
    steps["personaprobe, preselected in bfloat16"] = preselecting.learn
    if name == "topk" and find_spec("sparsify"):
        steps["sparsify"] = sparsify(options)
    runs = {label: in_a_row(step, rows) for label, step in steps.items()}
    for run in runs.values():  # what is made at the first step
        run()
    units = dict.fromkeys(runs, float(STEPS))
    return Work(f"a step of {name}", runs, lambda: furthest(trainer, rows[0]), units)


def in_a_row(step: Callable[[torch.Tensor], object], rows: torch.Tensor) -> Callable[[], object]:
    """The next few steps."""
    batches = cycle(rows)
    return lambda: [step(next(batches)) for _ in range(STEPS)]


def furthest(trainer: SAETrainer, rows: torch.Tensor) -> str:
    """How far gradients are from those of dense autograd, relative to the largest."""
    autoencoder, architecture = trainer.autoencoder, trainer.recipe.architecture
    assert isinstance(architecture, TopKArchitecture | BatchTopKArchitecture)
    x = rows / autoencoder.scale
    leaves = (autoencoder.encoder, autoencoder.decoder, autoencoder.b_enc, autoencoder.b_dec)
    none_dead = torch.zeros_like(autoencoder.b_enc, dtype=torch.bool)
    sparse = torch.autograd.grad(architecture.losses(autoencoder, x, none_dead).total, leaves)
    pre = torch.addmm(autoencoder.b_enc, x - autoencoder.b_dec, autoencoder.encoder.T)
    together = len(x) if isinstance(architecture, BatchTopKArchitecture) else 1
    searched = pre.detach().view(len(x) // together, -1)
    kept = searched.topk(int(architecture.k * together)).indices
    mask = torch.zeros_like(searched).scatter(-1, kept, 1.0).view_as(pre)
    written = (pre.relu() * mask) @ autoencoder.decoder + autoencoder.b_dec
    dense = torch.autograd.grad((written - x).square().sum() / len(x), leaves)
    apart = [(one - other).abs().max() / other.abs().max() for one, other in zip(sparse, dense, strict=True)]
    return f"gradients {float(max(apart)):.1e} of the largest apart from dense ones at most"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--d-in", type=int, default=576)
    parser.add_argument("--d-sae", type=int, default=4608)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument(
        "--keep-freed-memory", action="store_true", help="as the command line does, for all contenders"
    )
    parser.add_argument("--rounds", type=int, default=11)
    return parser.parse_args()


def variants(name: str, device: str) -> tuple[bool, ...]:
    """Whether SAELens keeps activations sparse: its TopK can, on a GPU; its training step does not run so on a CPU."""
    return (False, True) if name == "topk" and device != "cpu" else (False,)


def new(architecture: Architecture, rows: torch.Tensor, options: argparse.Namespace) -> SAETrainer:
    recipe = SAERecipe(architecture, d_sae=options.d_sae, steps=100_000)
    return SAETrainer(recipe, rows[0].cpu(), options.device)


def saelens(
    name: str, rows: torch.Tensor, options: argparse.Namespace, sparse: bool
) -> Callable[[torch.Tensor], object]:
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
    return lambda batch: trainer._train_step(sae=sae, sae_in=batch)


def sparsify(options: argparse.Namespace) -> Callable[[torch.Tensor], object]:
    """A step as sparsify's trainer takes it: unit norm, forward, backward, projection, Adam, and who fired."""
    if options.device == "cpu":  # where it would take Triton's presence for that of a GPU
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
    from sparsify import SparseCoder, SparseCoderConfig

    coder = SparseCoder(
        options.d_in, SparseCoderConfig(num_latents=options.d_sae, k=options.k), device=options.device
    )
    optimizer = torch.optim.Adam(coder.parameters(), lr=1e-3)
    idle = torch.zeros(options.d_sae, dtype=torch.long, device=options.device)

    def step(batch: torch.Tensor) -> None:
        coder.set_decoder_norm_to_unit_norm()
        out = coder(batch, dead_mask=idle > 10_000_000)
        (out.fvu + out.auxk_loss / 32).backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        idle.add_(options.rows)[out.latent_indices.flatten()] = 0

    return step


if __name__ == "__main__":
    main()
