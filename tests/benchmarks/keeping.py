"""Results of benchmarks, kept with the name of the hardware they were measured on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from personaprobe.studies.provenance import hardware


def keep(work: str, device: str | None, told: dict[str, Any]) -> Path:
    """Write a result beside the others and print it."""
    path, machine = place(work, device), hardware()
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        json.dumps({"work": work, **told, "hardware": machine, "torch": torch.__version__}, indent=1) + "\n"
    )
    print(json.dumps(told, indent=1))
    print(path)
    return path


def place(work: str, device: str | None) -> Path:
    """Where results of a work on this hardware stand."""
    machine = hardware()
    named = machine["gpus"][0] if str(device).startswith("cuda") else machine["cpu"]
    name = "".join(c if c.isalnum() else "-" for c in f"{work}-{named}".lower())
    return Path(__file__).parent / "results" / f"{name}.json"
