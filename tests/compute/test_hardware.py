"""The default dtype is the one that the processor multiplies faster."""

from __future__ import annotations

import pytest
import torch

from personaprobe.compute.hardware import choose_dtype


@pytest.mark.parametrize(
    ("tiles", "products", "name", "expected"),
    [
        (True, True, "Intel Xeon", torch.bfloat16),
        (False, True, "Intel Xeon", torch.float32),
        (False, True, "AMD EPYC", torch.bfloat16),
        (False, False, "AMD EPYC", torch.float32),
    ],
)
def test_bfloat16_is_the_default_only_where_it_is_multiplied_faster(
    tiles: bool, products: bool, name: str, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: products)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": name})
    assert choose_dtype(torch.device("cpu")) is expected
    assert choose_dtype(torch.device("cpu"), "float32") is torch.float32
