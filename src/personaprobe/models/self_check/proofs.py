"""Self-checks that were made before: the same weights, code and machine give the same result, which is kept.

A kept result is found again only where everything that it depends on is the same: the model's class and configuration, its
weights, the layer map, the precision, the processor, and the code of this package, of torch and of transformers.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe import models
from personaprobe.errors import OutputError
from personaprobe.models.self_check.check import Check
from personaprobe.models.weights.adapter_config import CONFIG
from personaprobe.storage.digests import digest, json_digest, sha256_of, tensor_bytes
from personaprobe.storage.files import cache_home
from personaprobe.storage.run_cache import RunCache

if TYPE_CHECKING:
    from personaprobe.models.edits.layout import Layout
    from personaprobe.models.weights.adapter import LoraAdapter

FOLDER = "self_checks"

SAMPLED = 4096
"""Values of each weight, evenly spaced, that stand for all of them."""


def spec_of(model: Any, layout: Layout, pad_id: int) -> dict[str, Any]:
    """Everything that the result of a self-check depends on, as plain data.

    Args:
        model: the Hugging Face model, without an adapter.
        layout: the layer map that is checked.
        pad_id: id of the padding token.
    """
    return {"layout": str(layout.names), "pad": pad_id, **_model(model), **_code(), **_machine(model)}


def adapter_spec_of(adapter: LoraAdapter) -> dict[str, str]:
    """The files of an adapter: its weights, and the configuration with its scales."""
    return {"adapter": adapter.sha256, "adapter_config": sha256_of(adapter.folder / CONFIG)}


def failed_checks(spec: Mapping[str, Any], make: Callable[[], list[Check]]) -> list[Check]:
    """The checks that fail; none, and none is made, where all of them passed before.

    Args:
        spec: of :func:`spec_of`, and of whatever else the checks depend on.
        make: makes the checks.
    """
    checks: list[Check] = []

    def compute() -> list[str]:
        checks.extend(make())
        if not all(check.passed for check in checks):
            raise _FailedError
        return [check.name for check in checks]

    try:
        RunCache(cache_home() / FOLDER).get_or_compute(spec, compute, fits=_fits)
    except (_FailedError, OutputError):  # the latter: a place that cannot be written to
        return [check for check in checks or make() if not check.passed]
    return []


class _FailedError(Exception):
    """A check failed: perhaps on another day it does not, so that it is made again at every load."""


def _fits(names: Any) -> bool:
    return isinstance(names, list) and bool(names) and all(isinstance(name, str) for name in names)


def _model(model: Any) -> dict[str, str]:
    return {
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
        "config": json_digest(json.loads(model.config.to_json_string(use_diff=False))),
        "attention": str(model.config._attn_implementation),
        "dtype": str(model.dtype),
        "weights": digest(*_weights(model)),
    }


def _weights(model: Any) -> Iterator[str | memoryview]:
    """Name, shape, kind and some values of every weight and buffer."""
    for name, tensor in model.state_dict().items():
        yield f"{name} {tuple(tensor.shape)} {tensor.dtype}"
        flat = tensor.detach().flatten()
        yield tensor_bytes(flat[:: max(1, len(flat) // SAMPLED)])


def _machine(model: Any) -> dict[str, Any]:
    import torch

    on_gpu = model.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(model.device) if on_gpu else str(model.device),
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    }


@cache
def _code() -> dict[str, str]:
    """Everything that computes: the modules of this package's models, and the versions of what they build on."""
    import torch
    import transformers

    files: Sequence[Path] = sorted(Path(models.__file__).parent.rglob("*.py"))
    return {
        "code": digest(*map(sha256_of, files)),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
