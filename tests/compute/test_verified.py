"""Compiled kernels compute what the plain functions compute, or are dropped with a warning."""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from personaprobe.compute import onednn
from personaprobe.models.edits.edit import EditPlan, apply
from personaprobe.models.edits.per_row import per_row
from personaprobe.models.edits.rank_one import AffineClamp, RankOneEdit, edit_projection
from personaprobe.models.fused import elementwise
from personaprobe.models.fused.model import FusedModel
from personaprobe.models.fused.rank_one import compiled_edit_projection
from personaprobe.site import Site

needs_a_compiler = pytest.mark.skipif(
    shutil.which("g++") is None or sys.platform != "linux", reason="no compiler on this machine"
)


def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


def compiling_to(monkeypatch: pytest.MonkeyPatch, kernel: Callable[..., Any]) -> list[Any]:
    """Make ``torch.compile`` return a given kernel; returns the functions it is called with."""
    compiled: list[Any] = []

    def compile_(function: Any, **_: Any) -> Any:
        compiled.append(function)
        return kernel

    monkeypatch.setattr(torch, "compile", compile_)
    return compiled


def test_a_compiler_that_fails_is_warned_of_once_and_the_plain_function_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(_: torch.Tensor) -> torch.Tensor:
        raise ImportError("no g++ here\nand more")

    compiled, function = compiling_to(monkeypatch, failing), elementwise.compile_verified(doubled)
    with pytest.warns(
        UserWarning, match=r"doubled is computed without torch\.compile.*ImportError: no g\+\+ here$"
    ):
        assert function(torch.ones(3)).tolist() == [2, 2, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert function(torch.ones(3)).tolist() == [2, 2, 2]
    assert len(compiled) == 1


def test_a_kernel_that_computes_something_else_is_detected_at_the_first_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiling_to(monkeypatch, lambda x: 2.01 * x)
    function = elementwise.compile_verified(doubled)
    with pytest.warns(UserWarning, match="differs from the plain"):
        assert function(torch.ones(3)).tolist() == [2, 2, 2]


def test_every_dtype_is_verified_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    compiling_to(monkeypatch, lambda x: (2.0 if x.dtype == torch.float32 else 3.0) * x)
    function = elementwise.compile_verified(doubled)
    assert function(torch.ones(3)).tolist() == [2, 2, 2]
    with pytest.warns(UserWarning, match="differs from the plain"):
        assert function(torch.ones(3).bfloat16()).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("too much"), torch.AcceleratorError("CUDA error: gone")]
)
def test_errors_that_the_compiler_did_not_cause_are_raised(
    error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: torch.Tensor) -> torch.Tensor:
        raise error

    compiling_to(monkeypatch, failing)
    with pytest.raises(type(error)):
        elementwise.compile_verified(doubled)(torch.ones(3))


def test_nothing_is_compiled_for_empty_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, function = compiling_to(monkeypatch, doubled), elementwise.compile_verified(doubled)
    assert function(torch.ones(0, 4)).shape == (0, 4)
    assert not compiled


@pytest.mark.slow
@needs_a_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_a_compiled_model_computes_the_same(
    tiny_model: Callable[..., Any], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama").to(dtype)
    ids = torch.arange(300)[None] % 128
    expected = model(input_ids=ids).logits
    elementwise.compiled_elementwise.cache_clear()
    without_packed_weights(monkeypatch)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*without torch.compile")
        with FusedModel(model, compiles=True).inference_session():
            result = model(input_ids=ids).logits
    names = {function.__name__ for function in verified(elementwise.compiled_elementwise)}
    assert names == {"rms_norm", "apply_rotary_by_halves", "silu_gated"}
    off = (result - expected).norm() / expected.norm()
    assert off < (1e-5 if dtype == torch.float32 else 0.02)


@needs_a_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("row_by_row", [False, True], ids=["one edit", "an edit a row"])
@torch.inference_mode()
def test_compiled_edits_compute_what_plain_ones_do(dtype: torch.dtype, row_by_row: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(3, 48, generator=draw), dim=-1)
    clamps = (AffineClamp(0.0, 3.0), AffineClamp(shift=-1.0), AffineClamp(low=-0.1, high=0.2))
    arms = [
        EditPlan.of({Site(0): (RankOneEdit(vector, clamp, 2, "test"),)})
        for vector, clamp in zip(vectors, clamps, strict=True)
    ]
    activations = torch.randn(6, 2 * elementwise.MIN_ROWS, 48, generator=draw).to(dtype)
    roles = torch.randint(3, activations.shape[:2], generator=draw)
    rows = per_row([arms[i % 3] for i in range(6)], activations.device)
    laid = [rows[Site(0)]] if row_by_row else [arm[Site(0)] for arm in arms]
    expected = [apply(edits, activations, roles) for edits in laid]
    elementwise.compiled_elementwise.cache_clear()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*without torch.compile")
        result = [apply(edits, activations, roles, compiled_edit_projection) for edits in laid]
    assert elementwise.compiled_elementwise(edit_projection)._verified
    for one, other in zip(result, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_edits_are_compiled_only_inside_a_session_of_a_model_that_compiles() -> None:
    model = torch.nn.Module()
    for compiles, inside in ((True, compiled_edit_projection), (False, edit_projection)):
        parts = FusedModel(model, compiles=compiles)
        assert parts.edit_projection is edit_projection
        with parts.inference_session():
            assert parts.edit_projection is inside
        assert parts.edit_projection is edit_projection


def without_packed_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: gates are compiled where no packed product applies them."""
    monkeypatch.setattr(onednn, "can_pack", lambda _: False)


def verified(compiled: Any) -> list[Any]:
    """The functions whose compiled form has been verified."""
    functions = (elementwise.rms_norm, elementwise.apply_rotary_by_halves, elementwise.silu_gated)
    return [function for function in functions if compiled(function)._verified]


def test_both_forms_of_the_rotary_embedding_agree() -> None:
    states, cos, sin = torch.randn(3, 1, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        elementwise.apply_rotary_by_halves(states, cos, sin), elementwise.apply_rotary(states, cos, sin)
    )


@pytest.mark.slow
def test_models_compile_on_a_cpu_only_on_request() -> None:
    from personaprobe.models.loading import Placement, load

    assert not load("demo", Placement("cpu", "float32")).network.compiles  # type: ignore[attr-defined]
    assert load("demo", Placement("cpu", "float32", compiles=True)).network.compiles  # type: ignore[attr-defined]
