"""The default dtype is the one that the processor multiplies faster."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from personaprobe.compute.hardware import choose_dtype, is_faster_in_bf16

FREED_MEMORY = """
import sys
from pathlib import Path
from personaprobe.compute.hardware import keep_freed_memory, return_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

keep_freed_memory()
import torch
blocks = [torch.ones(2**20) for _ in range(100)]
stays = torch.ones(2**20)  # above the blocks: the top of the heap is in use
before = resident()
del blocks
kept = resident()
return_freed_memory()
print(before - kept, kept - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory on request")
def test_freed_memory_is_kept_until_it_is_returned() -> None:
    """Of 400 MiB that were freed."""
    done = subprocess.run([sys.executable, "-c", FREED_MEMORY], capture_output=True, text=True, check=True)
    at_once, on_request = map(float, done.stdout.split())
    assert at_once < 50
    assert on_request > 300


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
