"""Shares of each workload's time by kind of operation on a CPU, measured by torch's profiler.

    python -m tests.benchmarks.shares
    python -m tests.benchmarks.shares --dtype float32 --only recording "a dictionary"

Our variant of every workload of `personaprobe bench`, and a training step of each dictionary, run once to warm up
and once under the profiler. Time in Python and in Numba's kernels counts as time between operations.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from tests.benchmarks.result_files import save_result
from torch.profiler import ProfilerActivity, profile

from personaprobe.features.sae.training.architectures.architecture import Architecture
from personaprobe.features.sae.training.architectures.batchtopk import BatchTopKArchitecture
from personaprobe.features.sae.training.architectures.topk import TopKArchitecture
from personaprobe.features.sae.training.trainer import SAERecipe, SAETrainer
from personaprobe.organisms.registry import load_trio
from personaprobe.studies.speed.workloads import workloads

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
"""Operations by kind, named by prefixes; the first match counts. All other operations are elementwise or small."""

OTHERS, BETWEEN = "elementwise and other", "between operations"

STEPS = 5
"""Training steps that are profiled together."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype")
    parser.add_argument("--only", nargs="+", help="prefixes of the names of workloads")
    options = parser.parse_args()
    trio = load_trio("advice", device="cpu", dtype=options.dtype)
    trio.insecure.network.activate_adapter(trio.insecure.adapter)
    result = {}
    runs = [
        *steps(),
        *((f"{load.name}: {name}", run) for load in workloads(trio) for name, run in ours(load.variants)),
    ]
    for name, run in runs:
        if options.only is None or name.startswith(tuple(options.only)):
            result[name] = shares(run)
            print(name, result[name], flush=True)
    dtype = str(trio.insecure.network.dtype).removeprefix("torch.")
    save_result(f"shares-{dtype}", "cpu", {"shares": result})


def ours(variants: dict[str, Callable[[], object]]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield our variants of a workload; all of them where none is another library's."""
    our_variants = {name: run for name, run in variants.items() if name.startswith("personaprobe")}
    yield from (our_variants or variants).items()


def steps() -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield training steps of dictionaries, in the shape of the benchmark ``dictionaries``."""
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
    """Return the share of a run's time that each kind of operation takes, the largest first."""
    run()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        started = time.perf_counter()
        run()
        total = 1e6 * (time.perf_counter() - started)
    microseconds: Counter[str] = Counter()
    for operation in profiler.key_averages():
        microseconds[kind(operation.key)] += operation.self_cpu_time_total
    microseconds[BETWEEN] = max(0.0, total - microseconds.total())
    return {name: round(time_of_kind / total, 3) for name, time_of_kind in microseconds.most_common()}


def kind(operation: str) -> str:
    """Return the kind of an operation by its name."""
    matching = (name for name, prefixes in KINDS.items() if operation.startswith(prefixes))
    return next(matching, OTHERS)


if __name__ == "__main__":
    main()
