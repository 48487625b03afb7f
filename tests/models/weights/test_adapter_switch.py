"""Switching is whole or undone: cut short at any step, the next switch sets everything right."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from personaprobe.errors import CheckpointError
from personaprobe.models.weights import adapter_switch
from personaprobe.models.weights.adapter import LoraAdapter
from personaprobe.models.weights.adapter_switch import AdapterSwitcher

TinyModel = Callable[..., Any]
Saved = Callable[..., Path]

Interruption = Callable[[int], Any]


@contextmanager
def at_line(n: int) -> Iterator[None]:
    """Ctrl-C at the n-th line of the switcher that runs."""
    passed = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal passed
        if frame.f_code.co_filename != adapter_switch.__file__:
            return None
        if event == "line":
            passed += 1
            if passed == n:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


class at_operation(TorchDispatchMode):  # used as the function above
    """An error of the device in the n-th tensor operation, after it wrote its result."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.left = n

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("planted")
        return result


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.clone() for name, parameter in model.named_parameters()}


def assert_weights(model: Any, expected: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(parameter, expected[name]) for name, parameter in model.named_parameters())


def switched(model: Any, adapter: LoraAdapter | None) -> dict[str, torch.Tensor]:
    switcher = AdapterSwitcher(model, torch.float32)
    switcher.activate(adapter)
    weights = weights_of(model)
    switcher.activate(None)
    return weights


@pytest.fixture
def adapters(saved: Saved) -> dict[str, LoraAdapter | None]:
    """Two adapters of different modules, and none."""
    one = saved(name="one", target_modules=["q_proj", "k_proj"])
    other = saved(name="other", target_modules=["k_proj", "down_proj"], r=2)
    return {"one": LoraAdapter.read(one), "other": LoraAdapter.read(other), "base": None}


@pytest.mark.parametrize("interruption", [at_line, at_operation])
@pytest.mark.parametrize(
    ("before", "stored"), [("base", "float32"), ("other", "float32"), ("other", "bfloat16")]
)
def test_a_switch_cut_short_at_any_step_is_undone_by_the_next(
    adapters: dict[str, LoraAdapter | None],
    tiny_model: TinyModel,
    before: str,
    stored: str,
    interruption: Interruption,
) -> None:
    model = tiny_model("llama")
    expected = {name: switched(model, adapter) for name, adapter in adapters.items()}
    n_cut = 0
    for n in range(1, 10_000):
        switcher = AdapterSwitcher(model, getattr(torch, stored))
        switcher.activate(adapters[before])
        try:
            with interruption(n):
                switcher.activate(adapters["one"])
        except (KeyboardInterrupt, RuntimeError):
            n_cut += 1
        else:
            break
        afterwards = ("base", "one", before)[n % 3]
        switcher.activate(adapters[afterwards])
        assert_weights(model, expected[afterwards])
        assert switcher.active == adapters[afterwards]
        switcher.activate(None)
        assert_weights(model, expected["base"])
    assert n_cut > 20
    assert_weights(model, expected["one"])


@pytest.mark.parametrize("interruption", [at_line, at_operation])
def test_taking_an_adapter_off_can_be_cut_short_too(
    adapters: dict[str, LoraAdapter | None], tiny_model: TinyModel, interruption: Interruption
) -> None:
    model = tiny_model("llama")
    base = weights_of(model)
    for n in range(1, 10_000):
        switcher = AdapterSwitcher(model, torch.float32)
        switcher.activate(adapters["one"])
        try:
            with interruption(n):
                switcher.activate(None)
        except (KeyboardInterrupt, RuntimeError):
            switcher.activate(None)
            assert_weights(model, base)
        else:
            break
    assert n > 5
    assert_weights(model, base)


def test_while_switching_no_adapter_counts_as_active(
    adapters: dict[str, LoraAdapter | None], tiny_model: TinyModel
) -> None:
    states = set()
    for n in (1, 30, 50, 60, 70):
        switcher = AdapterSwitcher(tiny_model("llama"), torch.float32)
        with pytest.raises(RuntimeError, match="planted"), at_operation(n):
            switcher.activate(adapters["one"])
        states.add(switcher.active)
    assert states == {None, "unknown"}


def test_a_refused_adapter_leaves_the_active_one(
    adapters: dict[str, LoraAdapter | None], saved: Saved, tiny_model: TinyModel
) -> None:
    model = tiny_model("llama")
    switcher = AdapterSwitcher(model, torch.float32)
    switcher.activate(adapters["one"])
    before = weights_of(model)
    with pytest.raises(CheckpointError):
        switcher.activate(LoraAdapter.read(saved("gpt2", name="foreign")))
    assert switcher.active == adapters["one"]
    assert_weights(model, before)


def test_a_base_with_some_matrices_in_more_digits_comes_back_bit_for_bit(
    adapters: dict[str, LoraAdapter | None], tiny_model: TinyModel
) -> None:
    """As after merging an adapter in float32: the embeddings fit bfloat16, and the merged matrices do not."""
    model = tiny_model("llama")
    before = weights_of(model)
    switcher = AdapterSwitcher(model, torch.bfloat16)
    adapter = adapters["one"]
    assert adapter is not None
    switcher.activate(adapter)
    name, update = next(iter(adapter.updates.items()))
    torch.testing.assert_close(model.get_submodule(name).weight, before[f"{name}.weight"] + update.delta())
    switcher.activate(None)
    assert_weights(model, before)
