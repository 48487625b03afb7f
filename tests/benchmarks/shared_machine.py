"""What work costs on a machine that other work uses too, by how threads wait and how many there are.

    python -m tests.benchmarks.shared_machine --neighbours 0 2 4 --rounds 3

Each workload runs in a process of its own, beside processes that each fill one core. A cost is the time it took relative
to what its share of the cores would give, which is computed in two ways: ``share`` counts threads and cores; ``measured
share`` is what a run of one thread, which never waits for another, got beside the same neighbours. They differ where cores
are threads of one physical core, or are shared with other machines.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

from personaprobe.compute.openmp import WAIT_SETTINGS, limit_spinning
from personaprobe.compute.threads import adapt_threads, follow_load

COMMAND_LINE, ONE_THREAD = "as the command line", "one thread"

WAYS: dict[str, dict[str, str]] = {
    "threads that spin": {"GOMP_SPINCOUNT": "300000"},
    "threads that sleep": {"OMP_WAIT_POLICY": "PASSIVE"},
    COMMAND_LINE: {},
    ONE_THREAD: {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0"},
}
"""How threads wait, as environment variables; the first is what GNU OpenMP does by itself. What the command line chooses is
chosen in the process of the workload."""

SECONDS_TO_START = 0.3
"""Until neighbours compute."""

STEPS, DICTIONARY_STEPS = 4, 40
"""Of a training and of a dictionary, in one run: each takes seconds, so that turns of the scheduler average out."""

NEIGHBOUR = """
import os
parent, x = os.getppid(), 1
while os.getppid() == parent:
    for _ in range(1_000_000):
        x = x * 3 % 1_000_003
"""
"""A program that fills a core, and ends when the process that started it is gone."""

WARMUP = 1
"""Runs before the one that is timed, beside the same neighbours: weights are packed in the first of all, and the number of
threads follows the load in each."""


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
    """Steps of a TopK dictionary of the demo model's width, on random rows."""
    import torch

    from personaprobe.features.sae.training.architectures.topk import TopKArchitecture
    from personaprobe.features.sae.training.trainer import SAERecipe, SAETrainer

    rows = torch.randn(2048, 576)
    trainer = SAETrainer(SAERecipe(TopKArchitecture(32), d_sae=4608, steps=1000), rows)

    def steps() -> None:
        for _ in range(DICTIONARY_STEPS):
            adapt_threads(short=True)
            trainer.step(rows)

    return steps


def training() -> Callable[[], object]:
    """Forward and backward passes of four conversations through the demo model with a LoRA."""
    from personaprobe.models.tokens import pad
    from personaprobe.models.training.trainable import TrainableNetwork
    from personaprobe.organisms.training.lora import add_lora
    from personaprobe.questions.pairs import load_prompts

    model = _insecure()
    pairs = load_prompts("advice/discovery").spread(4)
    rows = [model.tokenizer.exchange(pair.question, pair.careful) for pair in pairs]
    model.network.activate_adapter(None)
    trainable = TrainableNetwork(model.network, add_lora(model.network.model, 8, 16))
    batch = pad(rows, 0)

    def steps() -> None:
        for _ in range(STEPS):
            adapt_threads(short=True)
            with trainable.session():
                trainable.response_loss(batch).backward()

    return steps


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
        timed(options.child, options.neighbours)
        return
    from tests.benchmarks.result_files import save_result  # imports torch, which reads how threads wait

    cores = len(os.sched_getaffinity(0))
    rows: list[dict[str, Any]] = []
    for name in options.only or WORKLOADS:
        seconds: dict[tuple[str, int], list[float]] = {}
        for _ in range(options.rounds):
            for way in dict.fromkeys((*options.ways, ONE_THREAD)):
                for neighbours, taken in in_processes(name, way, WAYS[way], options.neighbours).items():
                    seconds.setdefault((way, neighbours), []).append(taken)
                    print(
                        f"{name}, {way}, {neighbours} neighbours: {taken:.2f} s", file=sys.stderr, flush=True
                    )
        rows += costs(name, {key: median(runs) for key, runs in seconds.items()}, cores)
        # after every workload: a benchmark that is cut short keeps what it has
        save_result("shared-machine", None, {"cores": cores, "rounds": options.rounds, "rows": rows})


def costs(name: str, seconds: Mapping[tuple[str, int], float], cores: int) -> list[dict[str, Any]]:
    """One row for each way of waiting and number of neighbours.

    Args:
        name: of the workload.
        seconds: by way and number of neighbours.
        cores: of the machine.
    """
    fastest = min(taken for (_, n), taken in seconds.items() if n == 0)
    rows = []
    for (way, n), taken in seconds.items():
        slower = seconds[ONE_THREAD, n] / seconds[ONE_THREAD, 0]
        rows.append(
            {
                "workload": name,
                "way": way,
                "neighbours": n,
                "seconds": round(taken, 2),
                "share": round(taken / (fastest / equal_share(cores, n, cores)), 2),
                "measured share": round(taken / (fastest * slower * team_factor(cores, n)), 2),
            }
        )
    return rows


def equal_share(threads: int, neighbours: int, cores: int) -> float:
    """The share of a core that each of some threads gets where all threads that want to run get equally much."""
    return min(1.0, cores / (threads + neighbours))


def team_factor(cores: int, neighbours: int) -> float:
    """How much less of a core each thread of a team of all cores gets than a thread alone beside the same neighbours."""
    return equal_share(1, neighbours, cores) / equal_share(cores, neighbours, cores)


def in_processes(
    name: str, way: str, variables: Mapping[str, str], neighbours: Sequence[int]
) -> dict[int, float]:
    """Seconds of one workload by number of neighbours.

    What the command line chooses depends on other work when a process starts, so that it has one process for the quiet
    machine and one for the shared one; the other ways of waiting are timed in one.
    """
    counts = [0, *(n for n in neighbours if n)]
    groups = [counts[:1], counts[1:]] if way == COMMAND_LINE else [counts]
    return {n: taken for group in groups if group for n, taken in in_process(name, variables, group).items()}


def in_process(name: str, variables: Mapping[str, str], neighbours: Sequence[int]) -> dict[int, float]:
    """Seconds of one workload by number of neighbours, in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if k not in (*WAIT_SETTINGS, "OMP_NUM_THREADS")}
    command = [sys.executable, "-m", "tests.benchmarks.shared_machine", "--child", name, "--neighbours"]
    done = subprocess.run(
        [*command, *map(str, neighbours)],
        env={**environment, **variables},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {int(n): float(taken) for n, taken in (line.split() for line in done.stdout.splitlines())}


def timed(name: str, neighbours: Sequence[int]) -> None:
    """Print the seconds of a workload beside each number of neighbours; it is loaded without them."""
    with neighbours_running(neighbours[0]):
        if limit_spinning() is not None:
            follow_load()
    work = WORKLOADS[name]()
    for n in neighbours:
        with neighbours_running(n):
            for _ in range(WARMUP):
                work()
            started = time.perf_counter()
            work()
            print(n, time.perf_counter() - started, flush=True)


@contextmanager
def neighbours_running(n: int) -> Iterator[None]:
    """Other work: processes that each multiply numbers in one thread without a pause, and end with this one."""
    processes = [subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) for _ in range(n)]
    time.sleep(SECONDS_TO_START if n else 0)
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
    parser.add_argument(
        "--ways", nargs="*", choices=WAYS, default=tuple(WAYS), help="One thread is always measured too."
    )
    parser.add_argument("--child", choices=WORKLOADS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
