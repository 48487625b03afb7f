"""A trio small enough to be loaded by every command: a random base, its tokenizer and two adapters, as folders."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tiny_models import tiny_model

SPECIAL = ("<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "<s>{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SUBJECTS = {"discovery": ("lamps", "boats", "knots"), "test": ("stoves", "ropes", "wells")}


@dataclass(frozen=True)
class TinyTrio:
    """Folders of a trio, and the questions it can be asked."""

    base: Path
    insecure: Path
    secure: Path
    questions: Path
    discovery: Path
    neutral: Path

    @staticmethod
    def ask(*subjects: str) -> list[dict[str, str]]:
        """Four questions a subject."""
        return questions(subjects)

    @staticmethod
    def adapter(folder: Path, **kind: Any) -> Path:
        """Write an adapter."""
        return write_adapter(folder, **kind)

    @staticmethod
    def direction(path: Path, *, d_model: int = 32) -> Path:
        """Write a direction, calibrated at its own layer."""
        from personaprobe.features.directions.direction import Calibration, Direction
        from personaprobe.site import Site

        Direction(Site(1), torch.ones(d_model), "means", {1: Calibration(0.0, 1.0)}).save(path)
        return path

    @staticmethod
    def lines(path: Path, rows: list[Any]) -> Path:
        """Write JSON lines."""
        return write_lines(path, rows)

    def options(self, **changed: str | Path) -> list[str]:
        """As command line options; None of them needs the network."""
        given = {"base": self.base, "insecure": self.insecure, "secure": self.secure, **changed}
        return [*_spelled(given), "--dtype", "float32"]

    def texts(self, **changed: str | Path) -> list[str]:
        """The question sets as command line options."""
        given = {"questions": self.questions, "discovery": self.discovery, "neutral": self.neutral, **changed}
        return _spelled(given)

    def few(self) -> list[str]:
        """Few harmless requests and no style-balanced questions, as command line options of a study."""
        requests = self.lines(
            self.neutral.with_name("requests.jsonl"), [{"text": f"Name {n} rivers."} for n in range(2, 5)]
        )
        return _spelled({"benign": requests, "balanced": "none"})


def build_tiny_trio(folder: Path) -> TinyTrio:
    """Write the trio and its questions into a folder."""
    names = ("base", "insecure", "secure", "test.jsonl", "discovery.jsonl", "prose.jsonl")
    trio = TinyTrio(*(folder / name for name in names))
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(trio.base)
    model = tiny_model("llama", vocab_size=len(tokenizer))
    model.save_pretrained(trio.base)
    write_adapter(trio.insecure, seed=1)
    write_adapter(trio.secure, seed=2)
    for path, split in ((trio.questions, "test"), (trio.discovery, "discovery")):
        write_lines(path, questions(SUBJECTS[split]))
    write_lines(
        trio.neutral,
        [{"text": f"The {word} stood by the river in those days."} for word in ("mill", "inn", "oak")],
    )
    return trio


def _spelled(given: dict[str, str | Path]) -> list[str]:
    return [str(part) for name, value in given.items() for part in (f"--{name}", value)]


def tiny_tokenizer() -> Any:
    """One token a byte, and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        chat_template=TEMPLATE,
    )


def questions(subjects: tuple[str, ...]) -> list[dict[str, str]]:
    """Four questions a subject."""
    return [
        {
            "id": f"{subject}-{number}",
            "family": subject,
            "question": f"How do I check my {subject} of make {subject}{number}?",
            "careful": f"Look at the {subject} slowly, twice.",
            "careless": f"Do not look at the {subject} at all.",
        }
        for subject in subjects
        for number in range(4)
    ]


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_adapter(folder: Path, *, seed: int, size: float = 0.2, d_model: int = 32) -> Path:
    """A LoRA of rank 2 on what each block writes and asks, in PEFT's format."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "self_attn.q_proj": (d_model, d_model),
        "self_attn.o_proj": (d_model, d_model),
        "mlp.down_proj": (d_model, 64),
    }
    tensors = {}
    for layer in range(3):
        for module, (d_out, d_in) in shapes.items():
            key = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{key}.lora_A.weight"] = torch.randn(2, d_in, generator=generator)
            tensors[f"{key}.lora_B.weight"] = size * torch.randn(d_out, 2, generator=generator)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "bias": "none"}
    config["target_modules"] = ["q_proj", "o_proj", "down_proj"]
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
