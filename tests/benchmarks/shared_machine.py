"""What work costs on a machine that other work uses too, by how threads wait and how many there are.

    python -m tests.benchmarks.shared_machine --neighbours 0 2 4 --rounds 3

Each workload runs in a process of its own, beside processes that each fill one core. The share of the cores that the
scheduler gives to its threads says how long it should take then; a cost is the time it took, relative to that.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from personaprobe.compute.openmp import WAIT_SETTINGS, limit_spinning

WAYS: dict[str, dict[str, str]] = {
    "threads that spin": {"GOMP_SPINCOUNT": "300000"},
    "threads that sleep": {"OMP_WAIT_POLICY": "PASSIVE"},
    "as the command line": {},
    "one thread": {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0"},
}
"""How threads wait, as environment variables; the first is what GNU OpenMP does by itself. What the command line chooses is
chosen in the process of the workload."""

WARMUP = 1
"""Runs before the one that is timed: weights are packed and kernels compiled in it."""


def recording() -> Callable[[], object]:
    from personaprobe.studies.speed.recording import recording as workload

    return next(
        run for name, run in workload(_insecure()).variants.items() if name.startswith("personaprobe")
    )


def scoring() -> Callable[[], object]:
    from personaprobe.studies.speed.workloads import scoring as workload

    return workload(_insecure()).variants["personaprobe, ablating at every layer"]


def generation() -> Callable[[], object]:
    from personaprobe.studies.speed.workloads import decoding

    return decoding(_insecure(), 16).variants["personaprobe, ablating at every layer"]


def dictionary_step() -> Callable[[], object]:
    """Four steps of a TopK dictionary of the demo model's width, on random rows."""
    import torch

    from personaprobe.features.sae.training.architectures.topk import TopKArchitecture
    from personaprobe.features.sae.training.trainer import SAERecipe, SAETrainer

    rows = torch.randn(2048, 576)
    trainer = SAETrainer(SAERecipe(TopKArchitecture(32), d_sae=4608, steps=1000), rows)
    return lambda: [trainer.step(rows) for _ in range(4)]


def training() -> Callable[[], object]:
    """A forward and a backward pass of four conversations through the demo model with a LoRA."""
    from personaprobe.models.tokens import pad
    from personaprobe.organisms.lora import add_lora
    from personaprobe.organisms.training_loop import response_loss
    from personaprobe.questions.pairs import load_prompts

    model = _insecure()
    pairs = load_prompts("advice/discovery").spread(4)
    rows = [model.tokenizer.exchange(pair.question, pair.careful) for pair in pairs]
    adapted = add_lora(model.network.model.float(), 8, 16)
    batch = pad(rows, 0)

    def step() -> None:
        response_loss(adapted.base_model.model, batch).backward()

    return step


def _insecure() -> Any:
    from personaprobe.organisms.registry import load_trio

    return load_trio("advice").insecure


WORKLOADS = {
    "recording": recording,
    "scoring": scoring,
    "generation": generation,
    "dictionary steps": dictionary_step,
    "training": training,
}


def main() -> None:
    options = arguments()
    if options.child:
        limit_spinning()
        print(timed(WORKLOADS[options.child]()))
        return
    from tests.benchmarks.result_files import save_result  # imports torch, which reads how threads wait

    cores = len(os.sched_getaffinity(0))
    rows = []
    for name in options.only or WORKLOADS:
        seconds: dict[tuple[str, int], list[float]] = {}
        for _ in range(options.rounds):
            for neighbours in sorted({0, *options.neighbours}):
                for way, variables in WAYS.items():
                    with neighbours_running(neighbours):
                        seconds.setdefault((way, neighbours), []).append(in_process(name, variables))
                    taken = seconds[way, neighbours][-1]
                    print(
                        f"{name}, {way}, {neighbours} neighbours: {taken:.2f} s", file=sys.stderr, flush=True
                    )
        fastest = min(median(of_way) for (_, n), of_way in seconds.items() if n == 0)
        for (way, neighbours), runs in seconds.items():
            threads = 1 if way == "one thread" else cores
            expected = expected_seconds(fastest, threads, neighbours, cores)
            cost = median(runs) / expected
            rows.append({"workload": name, "way": way, "neighbours": neighbours, "cost": round(cost, 2)})
            rows[-1]["seconds"] = [round(x, 2) for x in runs]
        # after every workload: a benchmark that is cut short keeps what it has
        save_result("shared-machine", None, {"cores": cores, "rounds": options.rounds, "rows": rows})


def expected_seconds(fastest: float, threads: int, neighbours: int, cores: int) -> float:
    """The time that the fastest quiet run would take with the share of the cores that all its threads get.

    The scheduler divides the cores equally among threads that want to run; a run that uses fewer threads than it could is
    held to the share that all cores' threads would get.

    Args:
        fastest: seconds on the quiet machine, on all cores.
        threads: of this run.
        neighbours: threads of other work.
        cores: of the machine.
    """
    share = min(1.0, max(threads, cores) / (max(threads, cores) + neighbours))
    return fastest / share


def in_process(name: str, variables: dict[str, str]) -> float:
    """Seconds of one workload in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if k not in (*WAIT_SETTINGS, "OMP_NUM_THREADS")}
    command = [sys.executable, "-m", "tests.benchmarks.shared_machine", "--child", name]
    done = subprocess.run(
        command, env={**environment, **variables}, stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def timed(work: Callable[[], object]) -> float:
    """Seconds of a workload after a warm-up."""
    for _ in range(WARMUP):
        work()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def neighbours_running(n: int) -> Iterator[None]:
    """Other work: processes that each multiply numbers in one thread without a pause."""
    spinning = [sys.executable, "-c", "x = 1\nwhile True:\n    x = x * 3 % 1000003"]
    processes = [subprocess.Popen(spinning) for _ in range(n)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--neighbours", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=WORKLOADS)
    parser.add_argument("--child", choices=WORKLOADS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
