"""The default dtype is the one that the processor multiplies faster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from personaprobe.compute.hardware import choose_dtype, is_faster_in_bf16


@pytest.fixture(autouse=True)
def forgotten_processor() -> Iterator[None]:
    """Look at the processor anew, before the test and after it."""
    is_faster_in_bf16.cache_clear()
    yield
    is_faster_in_bf16.cache_clear()


@pytest.mark.parametrize(
    ("has_tiles", "has_products", "name", "expected"),
    [
        (True, True, "Intel Xeon", torch.bfloat16),
        (False, True, "Intel Xeon", torch.float32),
        (False, True, "AMD EPYC", torch.bfloat16),
        (False, False, "AMD EPYC", torch.float32),
    ],
)
def test_bfloat16_is_the_default_only_where_the_processor_multiplies_it_faster(
    has_tiles: bool, has_products: bool, name: str, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_products)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": name})
    assert choose_dtype(torch.device("cpu")) is expected
    assert choose_dtype(torch.device("cpu"), "float32") is torch.float32
