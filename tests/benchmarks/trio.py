"""What a trio costs: memory of one base with two adapters, the time a switch takes, and whether a pass is any slower for it.

    python -m tests.benchmarks.trio

Memory counts every distinct storage that the models hold. Switches go around: insecure, secure, base.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from tests.benchmarks.keeping import keep

from personaprobe.models.language_model import LanguageModel
from personaprobe.organisms.registry import load_trio
from personaprobe.studies.speed.reference import bare_states
from personaprobe.studies.speed.workloads import chats

MIB = 2**20
ROUNDS = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--organism", default="advice")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    trio = load_trio(options.organism, dtype=options.dtype)
    models = [trio.insecure, trio.secure, trio.base]
    rounds = [[switch(model) for model in models] for _ in range(ROUNDS)][1:]
    one = held(trio.base.network.model.parameters())  # type: ignore[attr-defined]
    told: dict[str, Any] = {
        "organism": options.organism,
        "dtype": options.dtype,
        "MiB held": round(one + held(extra(trio.base, models)), 1),
        "MiB of three merged copies": round(3 * one, 1),
        "milliseconds a switch": milliseconds(list(chain.from_iterable(rounds))),
        "of them to the base, which only copies": milliseconds([to_base for *_, to_base in rounds]),
        "pass under an adapter over one without": round(
            statistics.median(passes(trio.insecure, trio.base)), 3
        ),
    }
    keep(f"trio-{options.dtype}", None, told)


def milliseconds(seconds: list[float]) -> float:
    return round(1e3 * statistics.median(seconds), 1)


def switch(model: LanguageModel) -> float:
    """Seconds until the network wears a model's adapter."""
    started = time.perf_counter()
    model.network.activate_adapter(model.adapter)
    return time.perf_counter() - started


def extra(base: LanguageModel, models: list[LanguageModel]) -> Iterator[torch.Tensor]:
    """What is held besides one model's weights: pristine matrices, and the adapters' factors."""
    yield from base.network._adapters._pristine.values()  # type: ignore[attr-defined]
    for model in models:
        for update in model.adapter.updates.values() if model.adapter else ():
            yield from (update.A, update.B)


def held(tensors: Any) -> float:
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values()) / MIB


def passes(adapted: LanguageModel, plain: LanguageModel) -> Iterator[float]:
    """Time of a pass over the same chats, as a ratio; each goes first in turn, and the first round warms up."""
    texts = chats(plain)[:8]
    for number in range(ROUNDS):
        seconds = {}
        for model in (adapted, plain) if number % 2 else (plain, adapted):
            model.network.activate_adapter(model.adapter)
            started = time.perf_counter()
            bare_states(model, texts)
            seconds[model is adapted] = time.perf_counter() - started
        if number:
            yield seconds[True] / seconds[False]


if __name__ == "__main__":
    main()
