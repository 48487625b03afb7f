"""Scoring answers: personaprobe beside the bare model, interleaved in one run, as ratios.

    python -m tests.benchmarks.scoring                                   # the demo model on this machine
    python -m tests.benchmarks.scoring --device cuda --dtype bfloat16 --shape 1b

Every contender scores the same token ids of the same questions and answers; that they agree is checked before they
are timed. Results go to ``tests/benchmarks/results/`` with the hardware's name.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from tests.benchmarks.keeping import keep

from personaprobe.effects.interventions import Ablate
from personaprobe.effects.preference import BATCH_TOKENS, fork
from personaprobe.features.directions import Direction, Mark
from personaprobe.models.checkpoint import Checkpoint
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import Placement, load, wrap
from personaprobe.models.network import Fork
from personaprobe.models.tokens import by_length, pad
from personaprobe.prompts import load_prompts
from personaprobe.site import Site

SHAPES = {
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32}
    | {"num_key_value_heads": 8, "vocab_size": 49152},
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    }
    | {"num_key_value_heads": 8, "vocab_size": 49152},
}
"""Llama shapes with random weights, for machines that the demo model does not fill."""


def main() -> None:
    options = arguments()
    model = model_of(options)
    forks = [fork(model.tokenizer, pair) for pair in load_prompts("advice/test").spread(options.questions)]
    contenders = {
        "bare model, full logits, arrival order": lambda: bare(model, forks),
        "personaprobe": lambda: ours(model, forks),
        "personaprobe, ablation at every layer": lambda: ours(model.edited(ablation(model)), forks),
    }
    reference, packed = bare(model, forks), ours(model, forks)
    tolerance = 1e-3 if model.network.dtype == torch.float32 else 0.1
    deviation = float((reference - packed).abs().max())
    assert deviation < tolerance, f"scores differ by {deviation} nats a token"
    seconds = timed(contenders, options.rounds)
    report(options, model, seconds, deviation)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument(
        "--shape", choices=sorted(SHAPES), help="random weights of this size instead of the demo"
    )
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def model_of(options: argparse.Namespace) -> LanguageModel:
    placement = Placement(options.device, options.dtype)
    demo = load(Checkpoint("demo"), placement)
    if options.shape is None:
        return demo
    from transformers import AutoModelForCausalLM, LlamaConfig

    device, dtype = placement.resolve()
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPES[options.shape]), dtype=dtype)
    return LanguageModel(Checkpoint(options.shape), wrap(model, demo.tokenizer.pad_id), demo.tokenizer)


def ablation(model: LanguageModel) -> Ablate:
    marks = {layer: Mark(0.0, 1.0) for layer in range(model.n_layers)}
    return Ablate(Direction(Site(model.n_layers // 2), torch.randn(model.d_model), "random", marks), "all")


def bare(model: LanguageModel, forks: list[Fork], batch_size: int = 16) -> torch.Tensor:
    """Separate rows in the order they come, logits of the whole vocabulary everywhere: what one writes first."""
    hf: Any = model.network.model  # type: ignore[attr-defined]  # the plain Hugging Face model
    rows = [row for one in forks for row in one.rows]
    means = []
    for start in range(0, len(rows), batch_size):
        group = rows[start : start + batch_size]
        batch = pad(group, model.network.pad_id).to(model.network.device)
        with torch.inference_mode():
            logits = hf(input_ids=batch.ids, attention_mask=batch.mask.long()).logits[:, :-1].float()
        values = logits.log_softmax(-1).gather(-1, batch.ids[:, 1:, None])[..., 0]
        means += [values[i, row.n_prompt - 1 : len(row) - 1].mean() for i, row in enumerate(group)]
    return torch.stack(means).cpu()


def ours(model: LanguageModel, forks: list[Fork]) -> torch.Tensor:
    """What preference is measured with: questions shared, head only at answers."""
    means: dict[tuple[int, int], torch.Tensor] = {}
    for indices in by_length(forks, BATCH_TOKENS):
        for index, group in zip(indices, model.fork_log_probs([forks[i] for i in indices]), strict=True):
            means.update({(index, which): values.mean() for which, values in enumerate(group)})
    return torch.stack([means[key] for key in sorted(means)]).cpu()


def timed(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def report(
    options: argparse.Namespace, model: LanguageModel, seconds: dict[str, list[float]], deviation: float
) -> None:
    first = next(iter(seconds.values()))
    rows = {
        name: {
            "median_s": statistics.median(times),
            "speed": statistics.median(a / b for a, b in zip(first, times, strict=True)),
            "speed_min": min(a / b for a, b in zip(first, times, strict=True)),
            "speed_max": max(a / b for a, b in zip(first, times, strict=True)),
        }
        for name, times in seconds.items()
    }
    told = {
        "model": options.shape or "demo",
        "dtype": str(model.network.dtype),
        "questions": options.questions,
        "rounds": options.rounds,
        "largest_deviation_nats": deviation,
        "speed_relative_to_first": rows,
    }
    keep(f"scoring-{told['model']}", options.device, told)


if __name__ == "__main__":
    main()
