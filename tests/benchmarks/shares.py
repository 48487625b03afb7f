"""What the time of each work goes into on a CPU, by kind of operation, as torch's profiler sees it.

    python -m tests.benchmarks.shares
    python -m tests.benchmarks.shares --dtype float32 --only recording "a dictionary"

Every work of `personaprobe bench` is run once to warm up and once under the profiler, as personaprobe does it; a training
step of dictionaries likewise. What is compiled by Numba or done in Python is seen as time between operations.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from tests.benchmarks.keeping import keep
from torch.profiler import ProfilerActivity, profile

from personaprobe.features.sae.training.architectures.architecture import Architecture
from personaprobe.features.sae.training.architectures.batchtopk import BatchTopKArchitecture
from personaprobe.features.sae.training.architectures.topk import TopKArchitecture
from personaprobe.features.sae.training.trainer import SAERecipe, SAETrainer
from personaprobe.organisms.registry import load_trio
from personaprobe.studies.speed.workloads import works

KINDS = {
    "products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "mkldnn::_linear", "aten::linear"),
    "weights laid out": ("mkldnn::_reorder",),
    "attention": ("aten::_scaled_dot", "aten::scaled_dot", "aten::_flash", "aten::_softmax"),
    "sparse products": ("aten::_embedding_bag", "aten::sparse_sampled", "_Encode", "_Decode"),
    "search": ("aten::topk", "aten::sort", "aten::nonzero", "aten::argmax"),
    "Adam": ("aten::_fused_adam", "Optimizer"),
    "copies and lookups": (
        "aten::copy_",
        "aten::index",
        "aten::gather",
        "aten::cat",
        "aten::embedding",
        "aten::slice",
    ),
}
"""PerRowEdits of operations, by how their names begin; the first that fits. All others are elementwise or small."""

OTHERS, BETWEEN = "elementwise and other", "between operations"

STEPS = 5
"""Training steps that are looked at together."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype")
    parser.add_argument("--only", nargs="+", help="beginnings of names")
    options = parser.parse_args()
    trio = load_trio("advice", device="cpu", dtype=options.dtype)
    trio.insecure.network.activate_adapter(trio.insecure.adapter)
    told = {}
    runs = [
        *steps(),
        *((f"{work.name}: {name}", run) for work in works(trio) for name, run in ours(work.contenders)),
    ]
    for name, run in runs:
        if options.only is None or name.startswith(tuple(options.only)):
            told[name] = shares(run)
            print(name, told[name], flush=True)
    dtype = str(trio.insecure.network.dtype).removeprefix("torch.")
    keep(f"shares-{dtype}", "cpu", {"shares": told})


def ours(contenders: dict[str, Callable[[], object]]) -> Iterator[tuple[str, Callable[[], object]]]:
    """The contenders that are not what we are compared with; where all are ours, all."""
    named = {name: run for name, run in contenders.items() if name.startswith("personaprobe")}
    yield from (named or contenders).items()


def steps() -> Iterator[tuple[str, Callable[[], object]]]:
    """Training steps of dictionaries, in the shape of `dictionaries`."""
    rows = torch.randn(2048, 576, generator=torch.Generator().manual_seed(0))
    kinds: dict[str, Architecture] = {
        "TopK": TopKArchitecture(32),
        "TopK, preselected": TopKArchitecture(32, preselect=True),
        "BatchTopK": BatchTopKArchitecture(32),
        "BatchTopK, preselected": BatchTopKArchitecture(32, preselect=True),
    }
    for name, architecture in kinds.items():
        trainer = SAETrainer(SAERecipe(architecture, d_sae=4608, steps=1000), rows)
        yield (
            f"a dictionary's step: {name}",
            lambda trainer=trainer: [trainer.step(rows) for _ in range(STEPS)],
        )


def shares(run: Callable[[], object]) -> dict[str, float]:
    """Share of the time of a run that each kind of operation takes, the largest first."""
    run()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        started = time.perf_counter()
        run()
        whole = 1e6 * (time.perf_counter() - started)
    taken: Counter[str] = Counter()
    for operation in seen.key_averages():
        taken[kind(operation.key)] += operation.self_cpu_time_total
    taken[BETWEEN] = max(0.0, whole - taken.total())
    return {name: round(microseconds / whole, 3) for name, microseconds in taken.most_common()}


def kind(operation: str) -> str:
    """What sort of operation a name is of."""
    fitting = (name for name, beginnings in KINDS.items() if operation.startswith(beginnings))
    return next(fitting, OTHERS)


if __name__ == "__main__":
    main()
