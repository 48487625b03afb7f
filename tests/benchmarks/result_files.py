"""Results of benchmarks as files, named by the hardware they were measured on."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch

from personaprobe.studies.arms.provenance import hardware


def save_result(benchmark: str, device: str | None, result: dict[str, Any]) -> Path:
    """Write a result, with commit, hardware and version of torch, and print it."""
    path = result_path(benchmark, device)
    path.parent.mkdir(exist_ok=True)
    provenance = {"commit": commit(), "hardware": hardware(), "torch": torch.__version__}
    path.write_text(json.dumps({"work": benchmark, **result, **provenance}, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    print(path)
    return path


@cache
def commit() -> str:
    """Return the commit that is measured, marked where the code differs from it; ``unknown`` outside a repository."""
    head = _git("rev-parse", "--short=12", "HEAD")
    changes = _git("status", "--porcelain", "--", ":/src", ":/tests/benchmarks/*.py")
    return f"{head}-dirty" if changes else head or "unknown"


def _git(*arguments: str) -> str:
    finished = subprocess.run(
        ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return finished.stdout.strip()


def result_path(benchmark: str, device: str | None) -> Path:
    """Return the file of a benchmark's results on this hardware."""
    machine = hardware()
    # processors of one name differ in their instructions, and so in their speed
    tiles = " AMX" if torch.cpu._is_amx_tile_supported() else ""
    processor = f"{machine['cpu']} {torch.backends.cpu.get_cpu_capability()}{tiles}"
    hardware_name = machine["gpus"][0] if str(device).startswith("cuda") else processor
    name = "".join(c if c.isalnum() else "-" for c in f"{benchmark}-{hardware_name}".lower())
    return Path(__file__).parent / "results" / f"{name}.json"
