"""Batches that do not fit into memory are split, with the same results and a warning."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from personaprobe.compute.out_of_memory import is_out_of_memory, refuse_out_of_memory, split_on_oom
from personaprobe.errors import DataError, DeviceError, FallbackWarning
from personaprobe.models.edits.edit import EditPlan
from personaprobe.models.generation.continuous_batching import generate
from personaprobe.models.generation.decoder import CachedDecoder
from personaprobe.models.generation.sampling import Draw, Sampling
from personaprobe.models.language_model import LanguageModel, score_under_edits
from personaprobe.models.network import Fork, Network
from personaprobe.models.self_check.check import probe_tokens
from personaprobe.models.tokens import Tokens

NO_END = (-1,)


ERRORS: dict[str, Exception] = {
    "a GPU": torch.OutOfMemoryError("CUDA out of memory"),
    "torch on a CPU": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
        "64 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "torch on Windows": RuntimeError(
        "DefaultCPUAllocator: not enough memory: you tried to allocate 64 bytes."
    ),
    "Apple's GPU": RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
    "numpy": MemoryError("Unable to allocate 7.45 GiB for an array"),
    "the system": OSError(errno.ENOMEM, "Cannot allocate memory"),
    "the linker": ImportError("libarrow.so.2600: cannot map: Cannot allocate memory"),
    "Rust": Exception("Cannot allocate memory (os error 12)"),
    "C++": RuntimeError("std::bad_alloc"),
    "a thread": RuntimeError("can't start new thread"),
}
"""Errors that mean too little memory, by who raises them."""


@pytest.fixture(params=ERRORS)
def error(request: pytest.FixtureRequest) -> Exception:
    """Too little memory, as each library says it."""
    return ERRORS[request.param]


@pytest.mark.parametrize(
    "other",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError(errno.ENOSPC, "No space left on device"),
        DataError("the answer 'out of memory' is no answer"),
        RuntimeError("could not create a primitive"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_are_not_taken_for_too_little_memory(other: BaseException) -> None:
    assert not is_out_of_memory(other)
    refuse_out_of_memory(other)


def test_too_little_memory_is_known_whoever_says_it_and_batches_are_halved(error: Exception) -> None:
    assert is_out_of_memory(error)

    def run(items: Sequence[int]) -> list[int]:
        if len(items) > 2:
            raise error
        return [2 * item for item in items]

    with pytest.warns(FallbackWarning, match="5 things did not fit"):
        assert split_on_oom(run, [1, 2, 3, 4, 5], "things") == [2, 4, 6, 8, 10]
    with pytest.raises(DeviceError, match=r"one of the things alone does not fit .* --dtype bfloat16"):
        split_on_oom(full, [1], "things")
    with pytest.raises(DeviceError, match=r"too little memory \(.*\); use --dtype bfloat16, a smaller model"):
        refuse_out_of_memory(error)


LIMITED = """
import resource, torch, warnings
from personaprobe.compute.out_of_memory import is_out_of_memory, refuse_out_of_memory, split_on_oom
torch.zeros(8) @ torch.zeros(8)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000,) * 2)
warnings.simplefilter("ignore")
def run(items):
    return [float(total) for total in torch.ones(len(items), 10_000_000).sum(1)]
print(split_on_oom(run, list(range(8)), "texts"))
try:
    split_on_oom(lambda items: [torch.ones(100_000_000)], [1], "texts")
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs limits on memory")
def test_a_processor_s_memory_that_is_really_too_small_is_split_and_then_refused() -> None:
    result = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False)
    halves, refusal = result.stdout.splitlines() or [result.stderr, ""]
    assert halves == str([10_000_000.0] * 8)
    assert refusal.startswith("DeviceError one of the texts alone does not fit into memory")


def full(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("out of memory")


def at_most(n: int, run: Any) -> Any:
    """The same function, on a machine where at most ``n`` items fit into memory."""

    def cramped(self: Any, items: Any, *rest: Any) -> Any:
        return full() if len(items) > n else run(self, items, *rest)

    return cramped


@pytest.fixture
def model(tiny_language_model: Any) -> LanguageModel:
    """One architecture is enough: splitting does not depend on it."""
    language_model: LanguageModel = tiny_language_model("llama")
    return language_model


@pytest.fixture
def reference(model: LanguageModel) -> Network:
    return model.network


@pytest.fixture
def forks(model: LanguageModel) -> list[Fork]:
    rows = probe_tokens(128)
    return [Fork(Tokens(row.ids[:n], row.roles[:n]), ((5, 6), (7,))) for row in rows for n in (3, 4)]


@pytest.mark.parametrize("n", [1, 2])
def test_questions_scored_in_halves_get_the_same_scores(
    model: LanguageModel, forks: list[Fork], n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(model.network)
    expected = score_under_edits([model, model], forks)
    monkeypatch.setattr(kind, "fork_log_probs", at_most(n, kind.fork_log_probs))
    with pytest.warns(UserWarning, match="read in halves"):
        result = score_under_edits([model, model], forks)
    for groups, expected_result in zip(result, expected, strict=True):
        for group, others in zip(groups, expected_result, strict=True):
            for one, other in zip(group, others, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_finished_answers_are_kept_when_the_batch_shrinks(
    reference: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = [Draw(Tokens(row.ids[:4], row.roles[:4]), s) for row in probe_tokens(128) for s in range(3)]
    sampling = Sampling(max_new_tokens=9, temperature=0.0, batch_size=4)
    expected = generate(reference, draws, sampling, [EditPlan()] * len(draws), NO_END)
    capacity, ended, steps = [4], [], [0]
    admit, step = CachedDecoder.admit, CachedDecoder.step

    def admitting(self: CachedDecoder, prompts: Any, edits: Any, rows: Any, max_new_tokens: int) -> Any:
        return full() if len(rows) > capacity[0] else admit(self, prompts, edits, rows, max_new_tokens)

    def stepping(self: CachedDecoder, ids: Any) -> Any:
        steps[0] += 1
        if steps[0] == 12:  # the first four have ended
            capacity[0] = 1
            full()
        return step(self, ids)

    monkeypatch.setattr(CachedDecoder, "admit", admitting)
    monkeypatch.setattr(CachedDecoder, "step", stepping)
    with pytest.warns(UserWarning, match="1 side by side"):
        result = generate(reference, draws, sampling, [EditPlan()] * len(draws), NO_END, ended.append)
    assert result == expected
    assert sum(ended) == len(draws)


@contextmanager
def nothing_fits(*_: Any) -> Any:
    full()
    yield


def test_an_error_says_what_to_do_where_a_single_item_does_not_fit(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = [Draw(Tokens(row.ids[:4], row.roles[:4])) for row in probe_tokens(128)]
    monkeypatch.setattr(type(model.network), "decoding", nothing_fits)
    with pytest.warns(UserWarning, match="did not fit"), pytest.raises(DeviceError, match="another device"):
        generate(model.network, draws, Sampling(batch_size=4), [EditPlan()] * len(draws), NO_END)
    with pytest.warns(UserWarning, match="did not fit"), pytest.raises(DeviceError, match="another device"):
        split_on_oom(full, [1, 2, 3], "things")
