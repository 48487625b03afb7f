"""Speed of recording, scoring and generation, compared with the bare model and with other libraries.

    python -m tests.benchmarks.speed                                   # the demo model on this machine
    python -m tests.benchmarks.speed --device cuda --dtype bfloat16 --shape 1b

The workloads are those of `personaprobe bench`, with variants for nnsight, TransformerLens and SAELens. Variants
take turns in one run, and speeds are ratios to the reference of the same round. Results go to
``tests/benchmarks/results/``, named by the hardware.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

import torch
from tests.benchmarks.result_files import commit, result_path, save_result

from personaprobe.models.backends.registry import rehost
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import Placement, load, wrap
from personaprobe.models.tokens import Tokens
from personaprobe.models.weights.checkpoint import Checkpoint, Trio
from personaprobe.organisms.registry import load_trio
from personaprobe.site import Site
from personaprobe.studies.speed.recording import (
    RECORDING_TOKENS,
    middle_site,
    recording,
    recording_all,
)
from personaprobe.studies.speed.texts import chats
from personaprobe.studies.speed.timing import Workload, peak_flops, time_workload
from personaprobe.studies.speed.workloads import decoding, generation, scoring

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

CONTEXT = 256
"""Tokens in a context of SAELens' activation store."""

OTHER_BACKENDS = {"nnsight": "nnsight", "transformer_lens": "TransformerLens"}
"""Backends of other libraries, and the names they are shown by."""


def main() -> None:
    options = arguments()
    trio = None if options.shape else load_trio("advice", device=options.device, dtype=options.dtype)
    # a fine-tune, because its answers end before they are cut
    model = random_model(options) if trio is None else trio.insecure
    result = {"model": options.shape or "demo", "dtype": str(model.network.dtype), "rounds": options.rounds}
    name = f"speed-{result['model']}-{result['dtype'].removeprefix('torch.')}"
    measured = {} if options.only is None else earlier_results(name, options.device)
    peak = peak_flops(model.network.device, model.network.dtype)
    result["peak TFLOP/s"] = round(peak / 1e12, 3)
    for workload in workloads(model, trio, options.rows):
        if options.only is None or workload.name.startswith(tuple(options.only)):
            measured[workload.name] = {
                **asdict(time_workload(workload, options.rounds, peak=peak)),
                "commit": commit(),
            }
            save_result(name, options.device, {**result, "works": list(measured.values())})


def earlier_results(benchmark: str, device: str | None) -> dict[str, Any]:
    """Read the workloads measured before, by name."""
    path = result_path(benchmark, device)
    return {entry["name"]: entry for entry in json.loads(path.read_text())["works"]} if path.is_file() else {}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument(
        "--shape", choices=sorted(SHAPES), help="random weights of this size instead of the demo"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, help="also decode so many answers of equal length at a time")
    parser.add_argument(
        "--only", nargs="+", help="prefixes of names of workloads; other results stay as they are"
    )
    return parser.parse_args()


def random_model(options: argparse.Namespace) -> LanguageModel:
    placement = Placement(options.device, options.dtype)
    demo = load(Checkpoint("demo"), placement)
    from transformers import AutoModelForCausalLM, LlamaConfig

    device, dtype = placement.resolve()
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPES[options.shape]), dtype=dtype)
    return LanguageModel(Checkpoint(options.shape), wrap(model, demo.tokenizer.pad_id), demo.tokenizer)


def workloads(model: LanguageModel, trio: Trio[LanguageModel] | None, rows: int | None) -> Iterator[Workload]:
    model.network.activate_adapter(model.adapter)
    recorded = recording(model)
    site, texts = middle_site(model), chats(model)
    others = {
        f"{name}, {RECORDING_TOKENS} tokens at a time": read(rehost(model, backend), texts, site)
        for backend, name in OTHER_BACKENDS.items()
    }
    store, share = sae_store(model, texts, site)
    others["SAELens' store, packed, documents see each other"] = store
    units = {"SAELens' store, packed, documents see each other": share}
    yield replace(recorded, variants={**recorded.variants, **others}, units=units)
    if trio is not None:
        yield recording_all(trio)
    yield scoring(model)
    yield from generation(model)
    if rows is not None:
        yield decoding(model, rows)


def read(model: LanguageModel, texts: list[Tokens], site: Site) -> Callable[[], object]:
    """Return another backend's pass over sorted, padded batches, cut off behind the site where it can be."""
    batches = [batch for _, batch in model.batches(texts, RECORDING_TOKENS)]
    return lambda: [model.activations(batch, [site])[site] for batch in batches]


def sae_store(model: LanguageModel, texts: list[Tokens], site: Site) -> tuple[Callable[[], object], float]:
    """Return a pass of SAELens' activation store over the same ids in full contexts, and the fraction of ids it reads."""
    from datasets import Dataset
    from sae_lens.load_model import HookedProxyLM
    from sae_lens.training.activations_store import ActivationsStore

    ids = [token for text in texts for token in text.ids]
    contexts = [ids[i : i + CONTEXT] for i in range(0, len(ids) - CONTEXT + 1, CONTEXT)]
    contexts_per_batch = RECORDING_TOKENS // CONTEXT
    n_batches = len(contexts) // contexts_per_batch
    hook = f"model.layers.{site.layer}"
    copied = copy.deepcopy(model.network.model)  # type: ignore[attr-defined]  # the proxy's hooks stay on it
    proxy = HookedProxyLM(copied, model.tokenizer.hf, hook_names=[hook])

    def run() -> None:
        store = ActivationsStore(
            model=proxy,
            dataset=Dataset.from_dict({"tokens": contexts}),
            streaming=False,
            hook_name=hook,
            hook_head_index=None,
            context_size=CONTEXT,
            d_in=model.d_model,
            n_batches_in_buffer=n_batches,
            total_training_tokens=1,
            store_batch_size_prompts=contexts_per_batch,
            train_batch_size_tokens=RECORDING_TOKENS,
            prepend_bos=False,
            normalize_activations="none",
            device=model.network.device,
            dtype="float32",
            sequence_separator_token=None,
        )
        for _ in range(n_batches):
            store.get_raw_llm_batch()

    return run, n_batches * contexts_per_batch * CONTEXT / len(ids)


if __name__ == "__main__":
    main()
