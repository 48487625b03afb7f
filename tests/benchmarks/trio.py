"""Cost of a trio: memory of one base with two adapters, time of a switch between them, and speed of a pass.

    python -m tests.benchmarks.trio

The memory is that of every distinct storage that the models hold. Switches run in a cycle: insecure, secure, base.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from tests.benchmarks.result_files import save_result

from personaprobe.models.language_model import LanguageModel
from personaprobe.organisms.registry import load_trio
from personaprobe.studies.speed.reference import reference_states
from personaprobe.studies.speed.texts import chats

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
    one_model = held(trio.base.network.model.parameters())  # type: ignore[attr-defined]
    result: dict[str, Any] = {
        "organism": options.organism,
        "dtype": options.dtype,
        "MiB held": round(one_model + held(extra(trio.base, models)), 1),
        "MiB of three merged copies": round(3 * one_model, 1),
        "milliseconds a switch": milliseconds(list(chain.from_iterable(rounds))),
        "of them to the base, which only copies": milliseconds([to_base for *_, to_base in rounds]),
        "pass under an adapter over one without": round(
            statistics.median(passes(trio.insecure, trio.base)), 3
        ),
    }
    save_result(f"trio-{options.dtype}", None, result)


def milliseconds(seconds: list[float]) -> float:
    return round(1e3 * statistics.median(seconds), 1)


def switch(model: LanguageModel) -> float:
    """Return the seconds until a model's adapter is active."""
    started = time.perf_counter()
    model.network.activate_adapter(model.adapter)
    return time.perf_counter() - started


def extra(base: LanguageModel, models: list[LanguageModel]) -> Iterator[torch.Tensor]:
    """Yield the tensors besides one model's weights: pristine copies of adapted matrices, and the adapters' factors."""
    yield from base.network._adapters._pristine.values()  # type: ignore[attr-defined]
    for model in models:
        for update in model.adapter.updates.values() if model.adapter else ():
            yield from (update.A, update.B)


def held(tensors: Any) -> float:
    """Return the memory of the distinct storages of tensors, in MiB."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values()) / MIB


def passes(adapted: LanguageModel, plain: LanguageModel) -> Iterator[float]:
    """Yield ratios of the time of a pass with an adapter to one without; they take turns in going first, after a warm-up."""
    texts = chats(plain)[:8]
    for number in range(ROUNDS):
        seconds = {}
        for model in (adapted, plain) if number % 2 else (plain, adapted):
            model.network.activate_adapter(model.adapter)
            started = time.perf_counter()
            reference_states(model, texts)
            seconds[model is adapted] = time.perf_counter() - started
        if number:
            yield seconds[True] / seconds[False]


if __name__ == "__main__":
    main()
