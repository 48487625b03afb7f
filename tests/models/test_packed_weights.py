"""Weights laid out for the kernels give the values that the model's own maps give, and are never stale."""

from __future__ import annotations

import pytest
import torch

from personaprobe.models import packed_weights
from personaprobe.models.packed_weights import FEW, PackedWeights

DTYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 64), (5, 1, 64), (2, 3, 64), (0, 64), (FEW, 64), (FEW + 1, 1, 64)])
@torch.inference_mode()
def test_products_are_what_they_ever_were(shape: tuple[int, ...], bias: bool, dtype: torch.dtype) -> None:
    linear = torch.nn.Linear(64, 96, bias=bias).to(dtype)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = linear(x)
    with PackedWeights(linear).used():
        found = linear(x)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@torch.inference_mode()
def test_rows_that_do_not_lie_side_by_side_are_read_right(dtype: torch.dtype) -> None:
    linear = torch.nn.Linear(64, 96).to(dtype)
    x = torch.randn(4, 128, generator=torch.Generator().manual_seed(0)).to(dtype)[:, ::2]
    expected = linear(x)
    with PackedWeights(linear).used():
        torch.testing.assert_close(linear(x), expected)


@torch.inference_mode()
def test_hooks_still_meet_the_output_and_nothing_is_left_behind() -> None:
    linear = torch.nn.Linear(8, 12)
    met: list[torch.Size] = []
    linear.register_forward_hook(lambda _, __, output: met.append(output.shape))
    packed = PackedWeights(torch.nn.Sequential(linear, torch.nn.ReLU()))
    with packed.used():
        with packed.used():
            linear(torch.ones(2, 8))
        assert packed.bytes == 4 * 8 * 12
    assert met == [(2, 12)]
    assert "forward" not in vars(linear)
    assert packed.bytes == 0


@torch.inference_mode()
def test_forgotten_weights_are_laid_out_anew() -> None:
    linear, x = torch.nn.Linear(8, 12), torch.ones(2, 8)
    packed = PackedWeights(linear)
    with packed.used():
        before = linear(x)
        linear.weight.data.mul_(2.0)
        packed.forget()
        torch.testing.assert_close(linear(x) - linear.bias, 2 * (before - linear.bias))


def test_gradients_flow_as_ever() -> None:
    linear, x = torch.nn.Linear(8, 12), torch.ones(2, 8, requires_grad=True)
    with PackedWeights(linear).used():
        linear(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, linear.weight.sum(0).expand(2, -1))


@torch.inference_mode()
def test_no_more_is_laid_out_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_weights, "MOST_BYTES", 4 * 8 * 12)
    model = torch.nn.Sequential(torch.nn.Linear(8, 12), torch.nn.Linear(12, 8))
    packed, x = PackedWeights(model), torch.ones(2, 8)
    expected = model(x)
    with packed.used():
        torch.testing.assert_close(model(x), expected)
        assert packed.bytes == 4 * 8 * 12


@torch.inference_mode()
def test_subclasses_know_better() -> None:
    class Doubled(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    linear = Doubled(8, 12)
    with PackedWeights(linear).used():
        assert "forward" not in vars(linear)
