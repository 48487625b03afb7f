"""Results of benchmarks, kept with the name of the hardware they were measured on."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch

from personaprobe.studies.arms.provenance import hardware


def keep(work: str, device: str | None, told: dict[str, Any]) -> Path:
    """Write a result beside the others and print it."""
    path = place(work, device)
    path.parent.mkdir(exist_ok=True)
    made = {"commit": commit(), "hardware": hardware(), "torch": torch.__version__}
    path.write_text(json.dumps({"work": work, **told, **made}, indent=1) + "\n")
    print(json.dumps(told, indent=1))
    print(path)
    return path


@cache
def commit() -> str:
    """What was measured: the commit checked out, marked where the code differs from it; ``unknown`` outside a repository."""
    head = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--", ":/src", ":/tests/benchmarks/*.py")
    return f"{head}-dirty" if changed else head or "unknown"


def _git(*given: str) -> str:
    told = subprocess.run(
        ["git", *given], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return told.stdout.strip()


def place(work: str, device: str | None) -> Path:
    """Where results of a work on this hardware stand."""
    machine = hardware()
    # processors of one name differ in what they compute
    tiles = " AMX" if torch.cpu._is_amx_tile_supported() else ""
    processor = f"{machine['cpu']} {torch.backends.cpu.get_cpu_capability()}{tiles}"
    named = machine["gpus"][0] if str(device).startswith("cuda") else processor
    name = "".join(c if c.isalnum() else "-" for c in f"{work}-{named}".lower())
    return Path(__file__).parent / "results" / f"{name}.json"
