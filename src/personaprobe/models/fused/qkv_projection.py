"""Queries, keys and values in one product: what they read is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from personaprobe.compute import onednn
from personaprobe.models.backends.shared_blocks import all_replaced
from personaprobe.models.fused.packed_linear import PackedWeights, is_plain

if TYPE_CHECKING:
    from torch import Tensor, nn

NAMES = ("q_proj", "k_proj", "v_proj")


class SharedProjections:
    """A model's maps to queries, keys and values, where they are three plain ones side by side."""

    def __init__(self, model: nn.Module, weights: PackedWeights) -> None:
        found = ([getattr(module, name, None) for name in NAMES] for module in model.modules())
        self._shared = [_Shared(linears, weights) for linears in found if _fit(linears)]

    def __len__(self) -> int:
        return len(self._shared)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let the first of three maps compute all of them, and the others take what it found."""
        with ExitStack() as stack:
            for shared in self._shared:
                stack.enter_context(shared.used())
            yield


class _Shared:
    """Three maps; the last two wait for the input that the first has read, and go their own way at any other."""

    def __init__(self, linears: Any, weights: PackedWeights) -> None:
        self._linears = tuple(linears)
        self._weights = weights
        self._read: Tensor | None = None
        self._found: dict[nn.Linear, Tensor] = {}

    @contextmanager
    def used(self) -> Iterator[None]:
        first, *others = self._linears
        try:
            with all_replaced(
                [(first, self._computing(first)), *((each, self._taking(each)) for each in others)]
            ):
                yield
        finally:
            self._drop()

    def _computing(self, first: Any) -> Callable[[Tensor], Tensor]:
        import torch

        usual, widths = first.forward, [linear.out_features for linear in self._linears]

        def forward(x: Tensor) -> Tensor:
            self._drop()
            packed = self._weights.of(x, *self._linears)
            if packed is None:
                own: Tensor = usual(x)
                return own
            parts = torch.split(onednn.linear(x, *packed), widths, -1)
            self._read, self._found = x, dict(zip(self._linears[1:], parts[1:], strict=True))
            return parts[0]

        return forward

    def _taking(self, linear: Any) -> Callable[[Tensor], Tensor]:
        usual = linear.forward

        def forward(x: Tensor) -> Tensor:
            if x is self._read and linear in self._found:
                return self._found.pop(linear)
            own: Tensor = usual(x)
            return own

        return forward

    def _drop(self) -> None:
        self._read, self._found = None, {}


def _fit(linears: list[Any]) -> bool:
    return all(map(is_plain, linears)) and len({linear.bias is None for linear in linears}) == 1
