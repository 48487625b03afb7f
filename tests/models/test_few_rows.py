"""Few rows are multiplied with the weights on the left: the same values, and nothing is left behind."""

from __future__ import annotations

import pytest
import torch

from personaprobe.models.few_rows import FEW, weights_first


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 8), (5, 1, 8), (2, 3, 8), (FEW, 8), (FEW + 1, 1, 8)])
def test_few_rows_are_multiplied_as_ever(shape: tuple[int, ...], bias: bool) -> None:
    linear = torch.nn.Linear(8, 12, bias=bias)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = linear(x)
    with weights_first([linear]):
        found = linear(x)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected)


def test_hooks_still_meet_the_output_and_nothing_is_left_behind() -> None:
    linear = torch.nn.Linear(8, 12)
    met: list[torch.Size] = []
    linear.register_forward_hook(lambda _, __, output: met.append(output.shape))
    with weights_first([linear, torch.nn.ReLU()]):
        linear(torch.ones(2, 8))
    assert met == [(2, 12)]
    assert "forward" not in vars(linear)


def test_subclasses_know_better() -> None:
    class Doubled(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    linear = Doubled(8, 12)
    with weights_first([linear]):
        assert "forward" not in vars(linear)
