"""Steps whose operations are frozen and replayed compute what the steps do; recordings that fail are not used.

A trace of the operations stands for a CUDA graph: it repeats them on the same memory, whatever Python would do by now.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from personaprobe.effects.interventions.along_direction import Ablate, Cap, Steer
from personaprobe.features.directions.direction import Direction, Mark
from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.edits.edit import EditPlan
from personaprobe.models.generation.continuous_batching import generate
from personaprobe.models.generation.cuda_graphs import (
    CAPACITY_STEP,
    ROW_STEP,
    Capture,
    CudaGraphCapture,
    DeviceFunction,
)
from personaprobe.models.generation.sampling import Draw, Sampling
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.loading import wrap
from personaprobe.models.self_check import probe_tokens
from personaprobe.models.tokens import Tokens
from personaprobe.site import Site

NO_END = -1
AXIS = Direction(Site(1), torch.linspace(-1, 1, 32), "test", {k: Mark(0.1, 2.0) for k in range(3)})
ASKS_THE_HOST = {"aten._local_scalar_dense", "aten.nonzero", "aten.lift_fresh_copy", "aten.masked_select"}


class Tracer:
    """Records what a run does, operation by operation, and keeps what was recorded."""

    def __init__(self) -> None:
        self.traces: list[Any] = []
        self.replayed = 0

    def __call__(self, run: DeviceFunction) -> DeviceFunction:
        trace = make_fx(run)()
        self.traces.append(trace)

        def replay() -> Tensor:
            self.replayed += 1
            found: Tensor = trace()
            return found

        return replay


def arms_of(network: HuggingFaceNetwork) -> list[EditPlan]:
    """Untouched, ablated everywhere, and edited at one site in several ways and at another in place."""
    stream = "resid_mid" if "resid_mid" in network.streams else "resid_pre"
    other = Direction(Site(0, stream), torch.linspace(2, -1, 32) ** 2, "other", {0: Mark(0.3, 1.0)})
    mixed = [Steer(other, amount=2.0), Cap(AXIS, high=0.1), Steer(AXIS, amount=-0.5)]
    return [EditPlan(), EditPlan.compose([Ablate(AXIS, "all")], 3), EditPlan.compose(mixed, 3)]


def prompts() -> list[Tokens]:
    rows = probe_tokens(128)
    return [Tokens(row.ids[:n], row.roles[:n]) for row in rows for n in (4, 9, 2)]


def answers(
    network: HuggingFaceNetwork,
    n_tokens: int = 7,
    end_id: int = NO_END,
    batch_size: int = 192,
    arms: list[EditPlan] | None = None,
) -> list[tuple[int, ...]]:
    arms = arms or arms_of(network)
    asked = [(Draw(prompt, sample), arm) for prompt in prompts() for arm in arms for sample in range(2)]
    sampling = Sampling(n_tokens, temperature=0.7, batch_size=batch_size)
    return generate(network, [draw for draw, _ in asked], sampling, [arm for _, arm in asked], end_id)


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> Callable[[Capture], None]:
    """Let networks record their steps by something, and attend as they do on a GPU."""

    def use(record: Capture) -> None:
        monkeypatch.setattr(HuggingFaceNetwork, "graph_capture", property(lambda _: lambda: record))

    monkeypatch.setattr(HuggingFaceNetwork, "uses_kv_cache_attention", False)
    return use


@pytest.fixture
def network(tiny_language_model: Callable[..., LanguageModel]) -> HuggingFaceNetwork:
    found = tiny_language_model("llama").network
    assert isinstance(found, HuggingFaceNetwork)
    return found


@pytest.mark.parametrize(
    ("end_id", "batch_size"), [(NO_END, 192), (40, 10)], ids=["all at once", "rows come and go"]
)
def test_replayed_steps_give_the_answers_of_computed_ones(
    reference: HuggingFaceNetwork,
    recording: Callable[[Capture], None],
    end_id: int,
    batch_size: int,
) -> None:
    expected = answers(reference, end_id=end_id, batch_size=batch_size)
    record = Tracer()
    recording(record)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert answers(reference, end_id=end_id, batch_size=batch_size) == expected
    assert record.replayed > len(record.traces) > 0


def test_a_recorded_step_asks_nothing_of_the_host(
    reference: HuggingFaceNetwork, recording: Callable[[Capture], None]
) -> None:
    record = Tracer()
    recording(record)
    answers(reference)
    (trace,) = record.traces
    called = {str(node.target).rsplit(".", 1)[0] for node in trace.graph.nodes if node.op == "call_function"}
    assert "aten.embedding" in called
    assert not called & ASKS_THE_HOST


@pytest.mark.parametrize("architecture", ["mistral", "gemma3_text"])
def test_windows_are_looked_back_over_in_recordings_too(
    tiny_model: Callable[..., Any], recording: Callable[[Capture], None], architecture: str
) -> None:
    network = wrap(tiny_model(architecture, sliding_window=5), 0)
    expected = answers(network)
    record = Tracer()
    recording(record)
    assert answers(network) == expected
    assert expected != answers(wrap(tiny_model(architecture, sliding_window=500), 0))
    assert record.replayed


def test_answers_that_outgrow_a_recording_get_another(
    network: HuggingFaceNetwork, recording: Callable[[Capture], None]
) -> None:
    n_tokens = CAPACITY_STEP + 6
    expected = answers(network, n_tokens)
    record = Tracer()
    recording(record)
    assert answers(network, n_tokens) == expected
    assert len(record.traces) == 2


def test_recordings_of_tables_that_were_too_small_are_not_replayed(
    network: HuggingFaceNetwork, recording: Callable[[Capture], None]
) -> None:
    short, *_, long = sorted(prompts(), key=len)
    untouched: EditPlan = EditPlan()

    def said() -> list[Tensor]:
        logits = []
        with network.decoding([untouched]) as decoder:
            for prompt, room in ((short, 5), (long, 2 * CAPACITY_STEP)):
                decoder.admit([prompt], [untouched], [0, 0], room)
                for _ in range(4):
                    n = 2 if prompt is short else 4
                    logits.append(decoder.step(torch.arange(n) + len(logits)).clone())
        return logits

    expected, record = said(), Tracer()
    recording(record)
    for one, other in zip(said(), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert len(record.traces) == 2


def test_few_recordings_serve_many_numbers_of_rows(
    network: HuggingFaceNetwork, recording: Callable[[Capture], None]
) -> None:
    record = Tracer()
    recording(record)
    answers(network, 12, end_id=40)
    n_rows = 2 * len(arms_of(network)) * len(prompts())
    assert len(record.traces) <= -(-n_rows // ROW_STEP)


def test_a_recording_that_fails_is_told_of_and_steps_are_computed(
    network: HuggingFaceNetwork, recording: Callable[[Capture], None]
) -> None:
    def failing(_: DeviceFunction) -> DeviceFunction:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    expected = answers(network)
    recording(failing)
    note = (
        "^decoding_step is computed without CUDA graphs, more slowly.*not permitted when stream is capturing$"
    )
    with pytest.warns(UserWarning, match=note) as told:
        assert answers(network) == expected
    assert len(told) == 1


def test_a_recording_that_computes_something_else_is_found_out(
    network: HuggingFaceNetwork, recording: Callable[[Capture], None]
) -> None:
    def stale(run: DeviceFunction) -> DeviceFunction:
        once = run() + 1
        return lambda: once

    expected = answers(network)
    recording(stale)
    with pytest.warns(UserWarning, match="differs from the plain"):
        assert answers(network) == expected


def test_steps_whose_edits_might_tell_the_host_something_are_not_recorded(
    network: HuggingFaceNetwork, recording: Callable[[Capture], None]
) -> None:
    seen: list[int] = []

    def tap(activations: Tensor, roles: Tensor) -> Tensor:
        seen.append(len(activations))
        return activations

    record = Tracer()
    recording(record)
    answers(network, 5, arms=[EditPlan.of({Site(1): (tap,)})])
    assert not record.traces
    assert len(seen) >= 5


def test_only_cuda_records_and_only_where_it_may_compile(
    network: HuggingFaceNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert network.graph_capture is None
    monkeypatch.setattr(network, "device", torch.device("cuda"))
    assert network.graph_capture is None
    monkeypatch.setattr(network, "compiles", True)
    assert network.graph_capture is CudaGraphCapture


def test_cuda_graphs_work_in_one_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[Any] = []

    class Graph:
        replayed = 0

        def pool(self) -> str:
            return "the first one's"

        def replay(self) -> None:
            Graph.replayed += 1

    @contextmanager
    def capturing(graph: Graph, pool: Any, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        pools.append(pool)
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    record, found = CudaGraphCapture(), torch.ones(2)
    replays = [record(lambda: found) for _ in range(3)]
    assert pools == [None, "the first one's", "the first one's"]
    assert all(replay() is found for replay in replays)
    assert Graph.replayed == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_cuda_graphs_give_the_answers_of_computed_steps(tiny_model: Callable[..., Any]) -> None:
    plain, graphed = (wrap(tiny_model("llama").cuda(), 0, compiles=compiles) for compiles in (False, True))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*without CUDA graphs")
        assert answers(graphed, end_id=40, batch_size=10) == answers(plain, end_id=40, batch_size=10)
