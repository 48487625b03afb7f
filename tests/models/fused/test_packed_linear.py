"""Packed weights give the same products as the linear maps themselves, and are never stale."""

from __future__ import annotations

import pytest
import torch

from personaprobe.compute import onednn
from personaprobe.models.fused import packed_linear
from personaprobe.models.fused.module_patch import patched
from personaprobe.models.fused.packed_linear import MAX_ROWS, PackedLinears, PackedWeights

DTYPES = [torch.float32, torch.bfloat16]
PACKABLE = [dtype for dtype in DTYPES if onednn.can_pack(dtype)]


@pytest.mark.parametrize("capable", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "shape", [(1, 64), (5, 1, 64), (2, 3, 64), (0, 64), (MAX_ROWS, 64), (MAX_ROWS + 1, 1, 64)]
)
@torch.inference_mode()
def test_products_are_unchanged(
    shape: tuple[int, ...], bias: bool, dtype: torch.dtype, capable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_linear, "is_faster_in_bf16", lambda: capable)
    monkeypatch.setattr(onednn, "has_avx512", lambda: capable)
    linear = torch.nn.Linear(64, 96, bias=bias).to(dtype)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected, weights = linear(x), PackedWeights()
    with patched(PackedLinears(linear, weights).patches()):
        result = linear(x)
    assert result.shape == expected.shape
    torch.testing.assert_close(result, expected)
    is_packed = capable or x[..., 0].numel() <= MAX_ROWS
    assert (weights.bytes > 0) == (is_packed and x.numel() > 0 and onednn.can_pack(dtype))


@pytest.mark.parametrize("dtype", PACKABLE)
@pytest.mark.parametrize("bias", [False, True])
@torch.inference_mode()
def test_weights_of_maps_with_the_same_input_are_stacked(dtype: torch.dtype, bias: bool) -> None:
    linears = [torch.nn.Linear(64, width, bias=bias).to(dtype) for width in (96, 32, 32)]
    x, weights = torch.randn(5, 64, generator=torch.Generator().manual_seed(0)).to(dtype), PackedWeights()
    packed = weights.get(x, *linears)
    assert packed is not None
    torch.testing.assert_close(onednn.linear(x, *packed), torch.cat([linear(x) for linear in linears], -1))
    assert weights.bytes == 160 * 64 * dtype.itemsize


@pytest.mark.parametrize("dtype", DTYPES)
@torch.inference_mode()
def test_strided_rows_are_multiplied_right(dtype: torch.dtype) -> None:
    linear = torch.nn.Linear(64, 96).to(dtype)
    x = torch.randn(4, 128, generator=torch.Generator().manual_seed(0)).to(dtype)[:, ::2]
    expected = linear(x)
    with patched(PackedLinears(linear, PackedWeights()).patches()):
        torch.testing.assert_close(linear(x), expected)


@torch.inference_mode()
def test_hooks_still_see_the_output_and_nothing_is_left_behind() -> None:
    linear, weights = torch.nn.Linear(8, 12), PackedWeights()
    shapes: list[torch.Size] = []
    linear.register_forward_hook(lambda _, __, output: shapes.append(output.shape))
    with patched(PackedLinears(torch.nn.Sequential(linear, torch.nn.ReLU()), weights).patches()):
        linear(torch.ones(2, 8))
        assert weights.bytes == 4 * 8 * 12
    assert shapes == [(2, 12)]
    assert "forward" not in vars(linear)


@torch.inference_mode()
def test_cleared_weights_are_packed_anew() -> None:
    linear, x, weights = torch.nn.Linear(8, 12), torch.ones(2, 8), PackedWeights()
    with patched(PackedLinears(linear, weights).patches()):
        before = linear(x)
        linear.weight.data.mul_(2.0)
        weights.clear()
        torch.testing.assert_close(linear(x) - linear.bias, 2 * (before - linear.bias))


def test_gradients_are_unchanged() -> None:
    linear, x = torch.nn.Linear(8, 12), torch.ones(2, 8, requires_grad=True)
    with patched(PackedLinears(linear, PackedWeights()).patches()):
        linear(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, linear.weight.sum(0).expand(2, -1))


@torch.inference_mode()
def test_no_more_is_packed_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_linear, "MAX_PACKED_BYTES", 4 * 8 * 12)
    model = torch.nn.Sequential(torch.nn.Linear(8, 12), torch.nn.Linear(12, 8))
    weights, x = PackedWeights(), torch.ones(2, 8)
    expected = model(x)
    with patched(PackedLinears(model, weights).patches()):
        torch.testing.assert_close(model(x), expected)
        assert weights.bytes == 4 * 8 * 12


@torch.inference_mode()
def test_subclasses_are_left_alone() -> None:
    class Doubled(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    linear = Doubled(8, 12)
    with patched(PackedLinears(linear, PackedWeights()).patches()):
        assert "forward" not in vars(linear)


def test_processors_that_cannot_pack_a_dtype_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("mkldnn_reorder_linear_weight: bf16 path needs the cpu support avx_ne_convert")

    assert onednn.can_pack(torch.float32)
    monkeypatch.setattr(onednn, "pack_weight", refuse)
    onednn.can_pack.cache_clear()
    try:
        linear, x, weights = torch.nn.Linear(8, 12), torch.ones(2, 8), PackedWeights()
        with torch.inference_mode(), patched(PackedLinears(linear, weights).patches()):
            assert torch.equal(linear(x), torch.nn.functional.linear(x, linear.weight, linear.bias))
        assert weights.bytes == 0
    finally:
        onednn.can_pack.cache_clear()
