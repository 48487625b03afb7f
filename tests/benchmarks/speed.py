"""Recording, scoring and generation beside the bare model and beside neighbours, interleaved in one run, as ratios.

    python -m tests.benchmarks.speed                                   # the demo model on this machine
    python -m tests.benchmarks.speed --device cuda --dtype bfloat16 --shape 1b

The works are those of `personaprobe bench`; neighbours that live in this environment are added to them. Results go to
``tests/benchmarks/results/`` with the hardware's name.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace

import torch
from tests.benchmarks.keeping import keep

from personaprobe.models.backends import rehost
from personaprobe.models.checkpoint import Checkpoint
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import Placement, load, wrap
from personaprobe.models.tokens import Tokens, by_length
from personaprobe.site import Site
from personaprobe.studies.bench import RECORDING_TOKENS, Work, chats, generation, measure, recording, scoring

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

NEIGHBOURS = {"nnsight": "nnsight", "transformer_lens": "TransformerLens"}


def main() -> None:
    options = arguments()
    model = model_of(options)
    told = {"model": options.shape or "demo", "dtype": str(model.network.dtype), "rounds": options.rounds}
    found = []
    for work in works(model):
        found.append(asdict(measure(work, options.rounds)))
        keep(f"speed-{told['model']}", options.device, {**told, "works": found})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument(
        "--shape", choices=sorted(SHAPES), help="random weights of this size instead of the demo"
    )
    parser.add_argument("--rounds", type=int, default=3)
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


def works(model: LanguageModel) -> Iterator[Work]:
    work = recording(model)
    site, texts = Site(model.n_layers // 2 - 1), chats(model)
    beside = {
        f"{name}, the same batches": read(rehost(model, backend), texts, site)
        for backend, name in NEIGHBOURS.items()
    }
    yield replace(work, contenders={**work.contenders, **beside})
    yield scoring(model)
    yield from generation(model)


def read(model: LanguageModel, texts: list[Tokens], site: Site) -> Callable[[], object]:
    """A neighbour's pass over sorted, padded batches, cut behind the site where it can be."""
    batches = [batch for _, batch in model.batches(texts, RECORDING_TOKENS)]
    assert len(batches) == len(by_length(texts, RECORDING_TOKENS))
    return lambda: [model.activations(batch, [site])[site] for batch in batches]


if __name__ == "__main__":
    main()
