"""Provenance of a study: the versions, digests, seeds and hardware that another machine needs to repeat it."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.studies.arms.plan import StudyPlan

PACKAGES = ("torch", "transformers", "transformer-lens", "sae-lens", "nnsight", "peft", "numpy")


def provenance(trio: Trio[LanguageModel], plan: StudyPlan) -> dict[str, Any]:
    """Describe a run so that another machine can repeat it; a repeated run has the same description, byte for byte."""
    return {
        "personaprobe": _own_version(),
        "organism": trio.name,
        "checkpoints": {role: model.checkpoint.describe() for role, model in trio.all_items()},
        "massive_tokens": [token.describe() for token in trio.base.network.massive_tokens],
        "plan": plan.describe(),
        "device": str(trio.base.network.device),
        "dtype": str(trio.base.network.dtype).removeprefix("torch."),
        "hardware": hardware(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def now() -> str:
    """The present time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def hardware() -> dict[str, Any]:
    """The operating system, processor, threads and GPUs of this machine."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "unknown"


def _own_version() -> str:
    # the package lists the public names of every room: importing it by a statement would be an import of them all
    return str(import_module("personaprobe").__version__)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
