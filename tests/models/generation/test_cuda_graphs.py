"""Replayed decoding steps compute what the steps themselves do, and captures that fail are not used.

A trace of the operations stands in for a CUDA graph: it repeats them on the same memory, and runs no Python in between.
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
from personaprobe.features.directions.direction import Calibration, Direction
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
from personaprobe.models.self_check.check import probe_tokens
from personaprobe.models.tokens import Tokens
from personaprobe.site import Site

NO_END = -1
AXIS = Direction(Site(1), torch.linspace(-1, 1, 32), "test", {k: Calibration(0.1, 2.0) for k in range(3)})
WAITS_FOR_HOST = {"aten._local_scalar_dense", "aten.nonzero", "aten.lift_fresh_copy", "aten.masked_select"}


class Tracer:
    """Captures the operations of a function as a trace, and counts replays."""

    def __init__(self) -> None:
        self.traces: list[Any] = []
        self.replayed = 0

    def __call__(self, function: DeviceFunction) -> DeviceFunction:
        trace = make_fx(function)()
        self.traces.append(trace)

        def replay() -> Tensor:
            self.replayed += 1
            result: Tensor = trace()
            return result

        return replay


def arms_of(network: HuggingFaceNetwork) -> list[EditPlan]:
    """Unedited, ablated everywhere, and edited at one site in several ways and at another in place."""
    stream = "resid_mid" if "resid_mid" in network.streams else "resid_pre"
    other = Direction(Site(0, stream), torch.linspace(2, -1, 32) ** 2, "other", {0: Calibration(0.3, 1.0)})
    mixed = [Steer(other, 2.0), Cap(AXIS, high=0.1), Steer(AXIS, -0.5)]
    return [EditPlan(), EditPlan.compose([Ablate(AXIS, layers="all")], 3), EditPlan.compose(mixed, 3)]


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
    rows = [(Draw(prompt, sample), arm) for prompt in prompts() for arm in arms for sample in range(2)]
    sampling = Sampling(n_tokens, temperature=0.7, batch_size=batch_size)
    return generate(network, [draw for draw, _ in rows], sampling, [arm for _, arm in rows], [end_id])


@pytest.fixture
def use_capture(monkeypatch: pytest.MonkeyPatch) -> Callable[[Capture], None]:
    """Make networks capture their steps by a given function, and attend as they do on a GPU."""

    def use(capture: Capture) -> None:
        monkeypatch.setattr(HuggingFaceNetwork, "graph_capture", property(lambda _: lambda: capture))

    monkeypatch.setattr(HuggingFaceNetwork, "uses_kv_cache_attention", False)
    return use


@pytest.fixture
def network(tiny_language_model: Callable[..., LanguageModel]) -> HuggingFaceNetwork:
    network = tiny_language_model("llama").network
    assert isinstance(network, HuggingFaceNetwork)
    return network


@pytest.mark.parametrize(
    ("end_id", "batch_size"), [(NO_END, 192), (40, 10)], ids=["all at once", "rows come and go"]
)
def test_replayed_steps_give_the_answers_of_computed_ones(
    reference: HuggingFaceNetwork,
    use_capture: Callable[[Capture], None],
    end_id: int,
    batch_size: int,
) -> None:
    expected = answers(reference, end_id=end_id, batch_size=batch_size)
    tracer = Tracer()
    use_capture(tracer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert answers(reference, end_id=end_id, batch_size=batch_size) == expected
    assert tracer.replayed > len(tracer.traces) > 0


def test_a_captured_step_never_waits_for_the_host(
    reference: HuggingFaceNetwork, use_capture: Callable[[Capture], None]
) -> None:
    tracer = Tracer()
    use_capture(tracer)
    answers(reference)
    (trace,) = tracer.traces
    called = {str(node.target).rsplit(".", 1)[0] for node in trace.graph.nodes if node.op == "call_function"}
    assert "aten.embedding" in called
    assert not called & WAITS_FOR_HOST


@pytest.mark.parametrize("architecture", ["mistral", "gemma3_text"])
def test_captured_steps_keep_sliding_windows(
    tiny_model: Callable[..., Any], use_capture: Callable[[Capture], None], architecture: str
) -> None:
    network = wrap(tiny_model(architecture, sliding_window=5), 0)
    expected = answers(network)
    tracer = Tracer()
    use_capture(tracer)
    assert answers(network) == expected
    assert expected != answers(wrap(tiny_model(architecture, sliding_window=500), 0))
    assert tracer.replayed


def test_answers_that_outgrow_a_graph_get_another_one(
    network: HuggingFaceNetwork, use_capture: Callable[[Capture], None]
) -> None:
    n_tokens = CAPACITY_STEP + 6
    expected = answers(network, n_tokens)
    tracer = Tracer()
    use_capture(tracer)
    assert answers(network, n_tokens) == expected
    assert len(tracer.traces) == 2


def test_graphs_of_a_cache_that_was_too_small_are_not_replayed(
    network: HuggingFaceNetwork, use_capture: Callable[[Capture], None]
) -> None:
    short, *_, long = sorted(prompts(), key=len)
    unedited: EditPlan = EditPlan()

    def decoded() -> list[Tensor]:
        logits = []
        with network.decoding([unedited]) as decoder:
            for prompt, max_new_tokens in ((short, 5), (long, 2 * CAPACITY_STEP)):
                decoder.admit([prompt], [unedited], [0, 0], max_new_tokens)
                for _ in range(4):
                    n = 2 if prompt is short else 4
                    logits.append(decoder.step(torch.arange(n) + len(logits)).clone())
        return logits

    expected, tracer = decoded(), Tracer()
    use_capture(tracer)
    for one, other in zip(decoded(), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert len(tracer.traces) == 2


def test_few_graphs_serve_many_numbers_of_rows(
    network: HuggingFaceNetwork, use_capture: Callable[[Capture], None]
) -> None:
    tracer = Tracer()
    use_capture(tracer)
    answers(network, 12, end_id=40)
    n_rows = 2 * len(arms_of(network)) * len(prompts())
    assert len(tracer.traces) <= -(-n_rows // ROW_STEP)


def test_a_capture_that_fails_is_warned_of_once_and_steps_are_computed(
    network: HuggingFaceNetwork, use_capture: Callable[[Capture], None]
) -> None:
    def failing(_: DeviceFunction) -> DeviceFunction:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    expected = answers(network)
    use_capture(failing)
    note = (
        "^decoding_step is computed without CUDA graphs, more slowly.*not permitted when stream is capturing$"
    )
    with pytest.warns(UserWarning, match=note) as warned:
        assert answers(network) == expected
    assert len(warned) == 1


def test_a_graph_that_computes_something_else_is_detected(
    network: HuggingFaceNetwork, use_capture: Callable[[Capture], None]
) -> None:
    def stale(function: DeviceFunction) -> DeviceFunction:
        wrong = function() + 1
        return lambda: wrong

    expected = answers(network)
    use_capture(stale)
    with pytest.warns(UserWarning, match="differs from the plain"):
        assert answers(network) == expected


def test_steps_whose_edits_may_wait_for_the_host_are_not_captured(
    network: HuggingFaceNetwork, use_capture: Callable[[Capture], None]
) -> None:
    batch_sizes: list[int] = []

    def tap(activations: Tensor, roles: Tensor) -> Tensor:
        batch_sizes.append(len(activations))
        return activations

    tracer = Tracer()
    use_capture(tracer)
    answers(network, 5, arms=[EditPlan.of({Site(1): (tap,)})])
    assert not tracer.traces
    assert len(batch_sizes) >= 5


def test_only_cuda_captures_and_only_where_it_may_compile(
    network: HuggingFaceNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert network.graph_capture is None
    monkeypatch.setattr(network, "device", torch.device("cuda"))
    assert network.graph_capture is None
    monkeypatch.setattr(network, "compiles", True)
    assert network.graph_capture is CudaGraphCapture


def test_cuda_graphs_share_one_pool_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[Any] = []

    class Graph:
        replayed = 0

        def pool(self) -> str:
            return "the first graph's"

        def replay(self) -> None:
            Graph.replayed += 1

    @contextmanager
    def capturing(graph: Graph, pool: Any, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        pools.append(pool)
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    capture, result = CudaGraphCapture(), torch.ones(2)
    replays = [capture(lambda: result) for _ in range(3)]
    assert pools == [None, "the first graph's", "the first graph's"]
    assert all(replay() is result for replay in replays)
    assert Graph.replayed == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_cuda_graphs_give_the_answers_of_computed_steps(tiny_model: Callable[..., Any]) -> None:
    plain, graphed = (wrap(tiny_model("llama").cuda(), 0, compiles=compiles) for compiles in (False, True))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*without CUDA graphs")
        assert answers(graphed, end_id=40, batch_size=10) == answers(plain, end_id=40, batch_size=10)
