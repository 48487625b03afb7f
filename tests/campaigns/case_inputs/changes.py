"""Changes of model folders, templates and adapters, as strangers bring them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tiny_trio import tiny_tokenizer

TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
PROMPT = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
REFUSES_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TURNS + PROMPT
)
DROPS_SYSTEM = TURNS.replace(" %}<|{{", " if m.role != 'system' %}<|{{") + PROMPT
THINKS = TURNS.replace(
    "|>{{", "|>{{ '<think>\n\n</think>\n\n' if m.role == 'assistant' else '' }}{{"
) + PROMPT.replace("|>{%", "|>{{ '<think>\n\n</think>\n\n' if not enable_thinking }}{%")
BLANK_AT_END = TURNS.replace("|>{{", "|> {{") + PROMPT.replace("|>", "|> ")
BLANK_BEFORE = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
LINE_BEFORE = TURNS.replace("|>{{", "|>\n{{") + PROMPT


def change_json(path: Path, **changes: Any) -> Path:
    """Set fields of a JSON file; None removes one."""
    value = (json.loads(path.read_text()) if path.exists() else {}) | changes
    path.write_text(json.dumps({name: item for name, item in value.items() if item is not None}))
    return path


def with_template(template: str) -> Callable[[Path], object]:
    """Writes another chat template into a model folder."""
    return lambda folder: (folder / "chat_template.jinja").write_text(template)


def ends_elsewhere(folder: Path) -> None:
    """The tokenizer's end is not what closes a turn, and the model itself names a third token."""
    change_json(folder / "tokenizer_config.json", eos_token="<pad>")
    change_json(folder / "generation_config.json", eos_token_id=[0, 1])


def another(folder: Path) -> None:
    """Other weights, so that the folder is no copy."""
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"] += 0.1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def one_more_token(folder: Path) -> None:
    another(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["beer"])
    tokenizer.save_pretrained(folder)


def another_end(folder: Path) -> None:
    another(folder)
    change_json(folder / "tokenizer_config.json", eos_token="<s>")


def without_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def without_shard(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    whole.save_pretrained(folder, max_shard_size="50KB")
    next(folder.glob("model-00002-of-*.safetensors")).unlink()


def with_tensor(name: str, *shape: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda tensors: {**tensors, name: torch.ones(shape)}


def renamed(old: str, new: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Another spelling of every tensor."""
    return lambda tensors: {key.replace(old, new): one for key, one in tensors.items()}
