"""Speed of dictionary training steps, compared with SAELens' trainer and sparsify's coder.

    python -m tests.benchmarks.dictionaries                       # on this machine
    python -m tests.benchmarks.dictionaries --device cuda --d-in 2048 --d-sae 16384

Each library takes whole steps (forward, backward, gradient clipping or projection, Adam, counting of dead latents)
on the same rows and in the same shape. Libraries take turns, a few steps at a time. The test suite checks that the
losses agree; the results state how far gradients are from those of dense autograd.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.util import find_spec
from itertools import cycle

import torch
from tests.benchmarks.result_files import save_result

from personaprobe.compute.hardware import keep_freed_memory
from personaprobe.features.sae.training.architectures.architecture import Architecture
from personaprobe.features.sae.training.architectures.batchtopk import BatchTopKArchitecture
from personaprobe.features.sae.training.architectures.topk import TopKArchitecture
from personaprobe.features.sae.training.trainer import SAERecipe, SAETrainer
from personaprobe.studies.speed.timing import Workload, time_workload

STEPS = 4
"""Steps that a library takes in a row before the next one's turn."""


def main() -> None:
    options = arguments()
    if options.keep_freed_memory:
        keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(8, options.rows, options.d_in, generator=generator).to(options.device)
    measurements = [
        time_workload(workload(name, rows, options), options.rounds) for name in ("topk", "batchtopk")
    ]
    shape = {key: getattr(options, key) for key in ("rows", "d_in", "d_sae", "k", "keep_freed_memory")}
    works = [asdict(measurement) for measurement in measurements]
    save_result("dictionaries", options.device, {"shape": shape, "rounds": options.rounds, "works": works})


def workload(name: str, rows: torch.Tensor, options: argparse.Namespace) -> Workload:
    """Return the training step in each library; SAELens is the reference."""
    architecture = {"topk": TopKArchitecture, "batchtopk": BatchTopKArchitecture}[name](options.k)
    steps = {
        f"SAELens{', sparse activations' if sparse else ''}": saelens(name, rows, options, sparse)
        for sparse in variants(name, options.device)
    }
    trainer = new(architecture, rows, options)
    steps["personaprobe"] = trainer.step
    preselecting = new(replace(architecture, preselect=True), rows, options)
    steps["personaprobe, preselected in bfloat16"] = preselecting.step
    if name == "topk" and find_spec("sparsify"):
        steps["sparsify"] = sparsify(options)
    runs = {label: several_steps(step, rows) for label, step in steps.items()}
    for run in runs.values():  # first steps compile kernels and allocate memory
        run()
    units = dict.fromkeys(runs, float(STEPS))
    return Workload(f"a step of {name}", runs, lambda: gradient_error(trainer, rows[0]), units)


def several_steps(step: Callable[[torch.Tensor], object], rows: torch.Tensor) -> Callable[[], object]:
    """Return a function that takes the next :data:`STEPS` steps."""
    batches = cycle(rows)
    return lambda: [step(next(batches)) for _ in range(STEPS)]


def gradient_error(trainer: SAETrainer, rows: torch.Tensor) -> str:
    """State the largest difference to gradients of dense autograd, relative to the largest gradient."""
    autoencoder, architecture = trainer.autoencoder, trainer.recipe.architecture
    assert isinstance(architecture, TopKArchitecture | BatchTopKArchitecture)
    x = rows / autoencoder.scale
    leaves = (autoencoder.encoder, autoencoder.decoder, autoencoder.b_enc, autoencoder.b_dec)
    none_dead = torch.zeros_like(autoencoder.b_enc, dtype=torch.bool)
    sparse = torch.autograd.grad(architecture.losses(autoencoder, x, none_dead).total, leaves)
    pre = torch.addmm(autoencoder.b_enc, x - autoencoder.b_dec, autoencoder.encoder.T)
    rows_per_search = len(x) if isinstance(architecture, BatchTopKArchitecture) else 1
    searched = pre.detach().view(len(x) // rows_per_search, -1)
    active = searched.topk(int(architecture.k * rows_per_search)).indices
    mask = torch.zeros_like(searched).scatter(-1, active, 1.0).view_as(pre)
    reconstruction = (pre.relu() * mask) @ autoencoder.decoder + autoencoder.b_dec
    dense = torch.autograd.grad((reconstruction - x).square().sum() / len(x), leaves)
    errors = [
        (ours - exact).abs().max() / exact.abs().max() for ours, exact in zip(sparse, dense, strict=True)
    ]
    return f"gradients {float(max(errors)):.1e} of the largest apart from dense ones at most"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--d-in", type=int, default=576)
    parser.add_argument("--d-sae", type=int, default=4608)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument(
        "--keep-freed-memory", action="store_true", help="for all libraries, as our command line does"
    )
    parser.add_argument("--rounds", type=int, default=11)
    return parser.parse_args()


def variants(name: str, device: str) -> tuple[bool, ...]:
    """List whether SAELens keeps activations sparse: its TopK offers both on a GPU; on a CPU its sparse step fails."""
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
    extra = {"use_sparse_activations": True} if sparse else {}
    sae = kind(config(d_in=options.d_in, d_sae=options.d_sae, k=options.k, device=options.device, **extra))
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
    """Return a step as sparsify's trainer takes it: unit norm, forward, backward, projection, Adam, dead latents."""
    if options.device == "cpu":  # sparsify uses Triton wherever it is installed, even without a GPU
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
    from sparsify import SparseCoder, SparseCoderConfig

    coder = SparseCoder(
        options.d_in, SparseCoderConfig(num_latents=options.d_sae, k=options.k), device=options.device
    )
    optimizer = torch.optim.Adam(coder.parameters(), lr=1e-3)
    tokens_since_fired = torch.zeros(options.d_sae, dtype=torch.long, device=options.device)

    def step(batch: torch.Tensor) -> None:
        coder.set_decoder_norm_to_unit_norm()
        out = coder(batch, dead_mask=tokens_since_fired > 10_000_000)
        (out.fvu + out.auxk_loss / 32).backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        tokens_since_fired.add_(options.rows)[out.latent_indices.flatten()] = 0

    return step


if __name__ == "__main__":
    main()
