"""Adapter folders as strangers change them, and what PEFT makes of them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from personaprobe.models.loading import wrap
from personaprobe.models.self_check.check import probe_tokens
from personaprobe.models.tokens import pad
from personaprobe.models.weights.adapter import WEIGHTS, LoraAdapter

BATCH = pad(probe_tokens(128), 0)
CONFIG = "adapter_config.json"


def change_config(folder: Path, *without: str, **changes: Any) -> Path:
    """Set and delete fields of an adapter's configuration."""
    config = json.loads((folder / CONFIG).read_text()) | changes
    (folder / CONFIG).write_text(json.dumps({k: v for k, v in config.items() if k not in without}))
    return folder


def change_tensors(folder: Path, change: Callable[[str, torch.Tensor], Any]) -> Path:
    """Replace an adapter's tensors: by another tensor, by ``(key, tensor)``, or by nothing for None."""
    changed: dict[str, torch.Tensor] = {}
    for key, tensor in load_file(folder / WEIGHTS).items():
        new = change(key, tensor)
        if new is not None:
            name, value = new if isinstance(new, tuple) else (key, new)
            changed[name] = value.contiguous()
    save_file(changed, folder / WEIGHTS)
    return folder


def change_keys(folder: Path, change: Callable[[str], str]) -> Path:
    """Rename an adapter's tensors."""
    return change_tensors(folder, lambda key, tensor: (change(key), tensor))


def our_logits(model: Any, folder: Path | None) -> torch.Tensor:
    """Logits of a model under the adapter of a folder, merged by us."""
    network = wrap(model, 0)
    network.activate_adapter(None if folder is None else LoraAdapter.read(folder))
    return network.logits(BATCH, {})[BATCH.mask]


def peft_logits(model: Any, folder: Path) -> torch.Tensor:
    """Logits of a model under the adapter of a folder, as PEFT computes them unmerged."""
    from peft import PeftModel

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        oracle = PeftModel.from_pretrained(model, folder).eval()
        logits = oracle(BATCH.ids, attention_mask=BATCH.mask.long(), position_ids=BATCH.positions).logits
    kept: torch.Tensor = logits[BATCH.mask]
    return kept


def assert_equals_peft(tiny_model: Callable[..., Any], folder: Path, architecture: str = "llama") -> None:
    """The folder moves the logits, and by what PEFT moves them."""
    ours = our_logits(tiny_model(architecture), folder)
    torch.testing.assert_close(ours, peft_logits(tiny_model(architecture), folder), atol=1e-4, rtol=1e-4)
    assert float((ours - our_logits(tiny_model(architecture), None)).abs().max()) > 1e-2
