"""Speed of fine-tuning beside a plain loop: transformers and PEFT on padded batches of rows of similar length.

    python -m tests.benchmarks.training

Both loops learn the same rows in the same batches, in one dtype, from the same first adapter, with the same optimiser;
their losses are compared first. The memory is that of ``personaprobe organisms train`` in a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from tests.benchmarks.result_files import save_result

from personaprobe.compute.hardware import choose_device, choose_dtype
from personaprobe.compute.optimisation import similar_length_batches
from personaprobe.models.loading import Placement, open_network
from personaprobe.models.tokens import Batch, Tokens, pad
from personaprobe.models.training.trainable import TrainableNetwork
from personaprobe.models.weights.checkpoint import Checkpoint
from personaprobe.organisms.data.training_data import TrainingData
from personaprobe.organisms.recipe import Recipe
from personaprobe.organisms.training.lora import add_lora
from personaprobe.questions.conversations import shuffled
from personaprobe.studies.speed.timing import Workload, time_workload

STEPS = 8
PLAIN = "transformers and PEFT"
RECIPE = Recipe(max_tokens=256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default=str(choose_dtype(choose_device())).removeprefix("torch."))
    parser.add_argument("--data", default="code", help="a training set of the package")
    parser.add_argument("--no-memory", action="store_true", help="do not start processes to measure memory")
    options = parser.parse_args()
    # first: a child's peak begins at its parent's size
    memory = None if options.no_memory else resident(options.data, options.dtype)
    loops = {
        PLAIN: plain_loop(options.dtype),
        "personaprobe": own_loop(options.dtype),
    }
    batches = training_rows(options.data)
    workload = Workload(
        f"{STEPS} steps on {options.data}",
        {name: lambda steps=steps: list(steps(batches)) for name, steps in loops.items()},
        lambda: deviation({name: list(steps(batches)) for name, steps in loops.items()}),
    )
    timed = time_workload(workload, options.rounds)
    supervised = sum(int(batch.predicting.sum()) for batch in batches)
    result: dict[str, Any] = {
        "data": options.data,
        "dtype": options.dtype,
        "rounds": options.rounds,
        "tokens": sum(int(batch.mask.sum()) for batch in batches),
        "of them padding, beside": sum(batch.mask.numel() - int(batch.mask.sum()) for batch in batches),
        "supervised tokens": supervised,
        "MiB resident, organisms train": memory,
        "deviation": timed.deviation,
        "speeds": {name: asdict(speed) for name, speed in timed.speeds.items()},
        "supervised tokens a second": {
            name: round(supervised / speed.seconds, 1) for name, speed in timed.speeds.items()
        },
    }
    save_result(f"training-{options.dtype}", None, result)


def training_rows(data: str) -> list[Batch]:
    """Return batches of rows whose whole lengths are similar, which need the least padding."""
    model = open_tokenizer()
    rows = shuffled(TrainingData.read(f"{data}:insecure").rows, 0)[: STEPS * RECIPE.batch_size]
    tokens: list[Tokens] = [
        model.exchange(row.question, row.answer, row.system).first(RECIPE.max_tokens) for row in rows
    ]
    return [
        pad(batch, model.pad_id)
        for batch in similar_length_batches(tokens, RECIPE.batch_size, len, lambda batches, _: batches)
    ]


def open_tokenizer() -> Any:
    return open_network(Checkpoint.parse_base("demo"), Placement(None, "float32"))[1]


Loop = Callable[[Sequence[Batch]], Iterator[float]]


def adapted_demo(dtype: str) -> tuple[Any, Any, list[torch.nn.Parameter]]:
    network, _ = open_network(Checkpoint.parse_base("demo"), Placement(None, dtype))
    torch.manual_seed(0)
    adapted = add_lora(network.model, RECIPE.rank, RECIPE.alpha)
    weights = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    return network, adapted, weights


def optimised(
    weights: list[torch.nn.Parameter], loss_of: Callable[[Batch], torch.Tensor]
) -> Callable[[Sequence[Batch]], Iterator[float]]:
    """Return a loop that begins at the same weights whenever it is called."""
    first = [weight.detach().clone() for weight in weights]

    def steps(batches: Sequence[Batch]) -> Iterator[float]:
        with torch.no_grad():
            for weight, value in zip(weights, first, strict=True):
                weight.copy_(value)
        adam = torch.optim.AdamW(weights, lr=RECIPE.learning_rate, weight_decay=0.0)
        for batch in batches:
            loss = loss_of(batch.to(weights[0].device))
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            adam.step()
            yield float(loss.detach())

    return steps


def plain_loop(dtype: str) -> Loop:
    """Return the loop as most trainers write it: labels of −100 where nothing is learned, the model's own loss."""
    _, adapted, weights = adapted_demo(dtype)

    def loss_of(batch: Batch) -> torch.Tensor:
        labels = batch.ids.clone()
        labels[:, 0] = -100
        labels[:, 1:][~batch.predicting] = -100
        loss: torch.Tensor = adapted(
            input_ids=batch.ids, attention_mask=batch.mask.long(), labels=labels, use_cache=False
        ).loss
        return loss

    return optimised(weights, loss_of)


def own_loop(dtype: str) -> Loop:
    network, adapted, weights = adapted_demo(dtype)
    trainable = TrainableNetwork(network, adapted)

    def steps(batches: Sequence[Batch]) -> Iterator[float]:
        with trainable.session():
            yield from optimised_steps(batches)

    optimised_steps = optimised(weights, trainable.response_loss)
    return steps


def deviation(losses: dict[str, list[float]]) -> str:
    plain, own = losses.values()
    largest = max(abs(one - other) for one, other in zip(plain, own, strict=True))
    return f"losses of {STEPS} steps differ by {largest:.1e} nats at most, of {max(plain):.2f}"


def resident(data: str, dtype: str) -> float:
    """Return the largest resident memory of a training by the command line."""
    program = "from personaprobe.cli.main import main; main()"
    with tempfile.TemporaryDirectory() as folder:
        given = ["organisms", "train", "--data", f"{data}:insecure", "--out", f"{folder}/out", "--quiet"]
        size = ["--steps", "5", "--max-tokens", str(RECIPE.max_tokens), "--dtype", dtype]
        subprocess.run([sys.executable, "-c", program, *given, *size], check=True, stdout=subprocess.DEVNULL)
    return round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    main()
