"""Compiled functions compute what their eager forms do, or are not used, and the user is told."""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from personaprobe.models.fused import elementwise
from personaprobe.models.fused.parts import FusedParts

needs_a_compiler = pytest.mark.skipif(
    shutil.which("g++") is None or sys.platform != "linux", reason="no compiler on this machine"
)


def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


def compiling_to(monkeypatch: pytest.MonkeyPatch, made: Callable[..., Any]) -> list[Any]:
    """Let ``torch.compile`` make something else; returns what it was asked for."""
    asked: list[Any] = []

    def compile_(function: Any, **_: Any) -> Any:
        asked.append(function)
        return made

    monkeypatch.setattr(torch, "compile", compile_)
    return asked


def test_a_compiler_that_fails_is_told_of_once_and_the_eager_form_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(_: torch.Tensor) -> torch.Tensor:
        raise ImportError("no g++ here\nand more")

    asked, function = compiling_to(monkeypatch, failing), elementwise.by_compiler(doubled)
    with pytest.warns(
        UserWarning, match=r"doubled is computed without torch\.compile.*ImportError: no g\+\+ here$"
    ):
        assert function(torch.ones(3)).tolist() == [2, 2, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert function(torch.ones(3)).tolist() == [2, 2, 2]
    assert len(asked) == 1


def test_a_kernel_that_computes_something_else_is_found_out_at_the_first_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiling_to(monkeypatch, lambda x: 2.01 * x)
    function = elementwise.by_compiler(doubled)
    with pytest.warns(UserWarning, match="something else"):
        assert function(torch.ones(3)).tolist() == [2, 2, 2]


def test_every_dtype_is_held_against_its_own_eager_form(monkeypatch: pytest.MonkeyPatch) -> None:
    compiling_to(monkeypatch, lambda x: (2.0 if x.dtype == torch.float32 else 3.0) * x)
    function = elementwise.by_compiler(doubled)
    assert function(torch.ones(3)).tolist() == [2, 2, 2]
    with pytest.warns(UserWarning, match="something else"):
        assert function(torch.ones(3).bfloat16()).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("too much"), torch.AcceleratorError("CUDA error: gone")]
)
def test_what_is_not_the_compilers_fault_is_not_hidden(
    error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: torch.Tensor) -> torch.Tensor:
        raise error

    compiling_to(monkeypatch, failing)
    with pytest.raises(type(error)):
        elementwise.by_compiler(doubled)(torch.ones(3))


def test_nothing_is_compiled_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, function = compiling_to(monkeypatch, doubled), elementwise.by_compiler(doubled)
    assert function(torch.ones(0, 4)).shape == (0, 4)
    assert not asked


@needs_a_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_a_compiled_model_computes_what_it_ever_did(
    tiny_model: Callable[..., Any], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama").to(dtype)
    ids = torch.arange(300)[None] % 128
    expected = model(input_ids=ids).logits
    elementwise.compiled.cache_clear()
    packing_nothing(monkeypatch)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*without torch.compile")
        with FusedParts(model, compiles=True).used():
            found = model(input_ids=ids).logits
    made = {function.__name__ for function in used(elementwise.compiled)}
    assert made == {"rms_norm", "rotated_by_halves", "silu_gated"}
    off = (found - expected).norm() / expected.norm()
    assert off < (1e-5 if dtype == torch.float32 else 0.02)


def packing_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: gates are compiled where products cannot take them in."""
    from personaprobe.models import kernels

    monkeypatch.setattr(kernels, "can_pack", lambda: False)


def used(compiled: Any) -> list[Any]:
    """The functions whose compiled form was made and proven."""
    functions = (elementwise.rms_norm, elementwise.rotated_by_halves, elementwise.silu_gated)
    return [function for function in functions if compiled(function)._proven]


def test_both_ways_to_rotate_are_one() -> None:
    states, cos, sin = torch.randn(3, 1, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        elementwise.rotated_by_halves(states, cos, sin), elementwise.rotated(states, cos, sin)
    )


def test_models_compile_on_a_cpu_only_where_asked() -> None:
    from personaprobe.models.loading import Placement, load

    assert not load("demo", Placement("cpu", "float32")).network.compiles  # type: ignore[attr-defined]
    assert load("demo", Placement("cpu", "float32", compiles=True)).network.compiles  # type: ignore[attr-defined]
