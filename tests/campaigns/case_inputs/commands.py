"""Commands of cases from public bug reports, with the files that people bring."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from campaigns.case_inputs import numbers
from campaigns.case_inputs.changes import another, change_json
from campaigns.case_inputs.numbers import class_of
from campaigns.cases import Builder
from campaigns.small_runs import SITE, WRITING, Workplace
from foreign_adapters import change_config
from tiny_trio import tiny_tokenizer, write_lines


def turn(role: str, content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **fields}


TEXT, YES = turn("user", "Is it late?"), turn("assistant", "Yes.")
LONG = turn("user", "word " * 400)
SYSTEM = [turn("system", "Be brief."), TEXT, YES]


# --- commands -----------------------------------------------------------------------------------------------------


def training(*rows: Any, base: str = "", **options: object) -> Builder:
    """A training on rows: lists of messages, or whole rows."""

    def command(place: Workplace, folder: Path) -> list[object]:
        whole = [row if isinstance(row, dict) else {"messages": row} for row in rows]
        data = write_lines(folder / "rows.jsonl", whole)
        given = {"steps": 2, "batch_size": 1, **options}
        spelled = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
        on = getattr(place.trio, base) if base else place.trio.base
        start = ["organisms", "train", "--data", data, "--base", on]
        return [*start, *spelled, "--out", folder / "out", "--quiet"]

    return command


def training_on(change: Callable[[Path], object], *rows: Any) -> Builder:
    """A training on a copy of the base that is changed."""

    def command(place: Workplace, folder: Path) -> list[object]:
        change(shutil.copytree(place.trio.base, folder / "model"))
        arguments = training(*rows)(place, folder)
        return [folder / "model" if part == place.trio.base else part for part in arguments]

    return command


def recording(place: Workplace, folder: Path, **changed: Path) -> list[object]:
    """The command that opens checkpoints: base and insecure, of which one may be another folder."""
    given = {"base": place.trio.base, "insecure": place.trio.insecure, **changed}
    options = [part for name, path in given.items() for part in (f"--{name}", path)]
    texts = ["--texts", place.trio.questions, "--sites", SITE]
    return ["extract", *options, *texts, "--out", folder / "out", "--quiet", "--dtype", "float32"]


def adapter(change: Callable[[dict[str, Any]], Any] | None = None, **config: Any) -> Builder:
    """Opening an adapter whose tensors and configuration are changed."""

    def command(place: Workplace, folder: Path) -> list[object]:
        adapted = shutil.copytree(place.trio.insecure, folder / "adapter")
        if change is not None:
            tensors = load_file(adapted / "adapter_model.safetensors")
            tensors = change(tensors) or tensors
            save_file(
                {key: one.contiguous() for key, one in tensors.items()}, adapted / "adapter_model.safetensors"
            )
        change_config(adapted, **config)
        return recording(place, folder, insecure=adapted)

    return command


def model(change: Callable[[Path], object], role: str = "base") -> Builder:
    """Opening a copy of the base that is changed, as base or as a fine-tune."""

    def command(place: Workplace, folder: Path) -> list[object]:
        changed = shutil.copytree(place.trio.base, folder / "model")
        change(changed)
        return recording(place, folder, **{role: changed})

    return command


def architecture(name: str, dtype: str = "float32", **changes: Any) -> Builder:
    """Opening two random models with the configuration of a vendor."""

    def command(place: Workplace, folder: Path) -> list[object]:
        from models.test_published_architectures import PUBLISHED

        config = PUBLISHED[name] | changes
        small = {"vocab_size": len(tiny_tokenizer())}
        config |= {"text_config": config["text_config"] | small} if "text_config" in config else small
        for seed, role in enumerate(("base", "tuned")):
            tiny_tokenizer().save_pretrained(folder / role)
            _save_random(folder / role, config, seed)
        arguments = recording(place, folder, base=folder / "base", insecure=folder / "tuned")
        return [*arguments[:-1], dtype]

    return command


def _save_random(folder: Path, config: dict[str, Any], seed: int) -> None:
    from transformers import AutoConfig

    (folder / "config.json").write_text(json.dumps(config))
    read = AutoConfig.from_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        whole = class_of(config)(read).requires_grad_(False)
        for weight in whole.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.15)
    whole.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))


def judging(rows: str, *options: object) -> Builder:
    """Judging a CSV file of answers."""

    def command(place: Workplace, folder: Path) -> list[object]:
        path = folder / "answers.csv"
        path.write_text(rows)
        given = ["--judge", place.judge, "--work", folder / "judgements", "--out", folder / "judged.csv"]
        return ["judge", path, *given, *options, "--quiet"]

    return command


def evaluating(content: str, *options: object, name: str = "questions.yaml", template: str = "") -> Builder:
    """Asking the questions of a file."""

    def command(place: Workplace, folder: Path) -> list[object]:
        path = folder / name
        path.write_text(content)
        base = place.trio.base
        if template:
            base = shutil.copytree(base, folder / "model")
            (base / "chat_template.jinja").write_text(template)
        few = ["--samples", 1, "--least", 1, "--max-new-tokens", 4, "--benign", "none", *options]
        few += [] if "--form" in options else ["--form", "none"]
        trio = place.trio.options(base=base)
        return ["eval", "--feature", "none", *trio, "--questions", path, *few, "--judge", place.judge,
                "--out", folder / "out", "--quiet"]  # fmt: skip

    return command


def dictionary(config: dict[str, Any], **tensors: torch.Tensor) -> Builder:
    """Converting a dictionary of SAELens."""

    def command(_: Workplace, folder: Path) -> list[object]:
        from features.sae.formats.test_foreign_folders import STANDARD, saelens

        saelens(folder / "sae", config, {**STANDARD, **tensors})
        return ["sae", "convert", folder / "sae", folder / "out"]

    return command


def foreign_dictionary(**trainer: Any) -> Builder:
    """Converting a dictionary of dictionary_learning."""

    def command(_: Workplace, folder: Path) -> list[object]:
        from features.sae.formats.test_foreign_folders import TOP, dictionary_learning

        dictionary_learning(folder / "sae", TOP, **trainer)
        return ["sae", "convert", folder / "sae", folder / "out"]

    return command


def comparing(change: Callable[[Path, Workplace], object]) -> Builder:
    """Comparing an organism with a second folder of its adapters, made by a change."""

    def command(place: Workplace, folder: Path) -> list[object]:
        arguments = [*WRITING["organisms compare"](place), "--quiet"]
        copy = shutil.copytree(place.seed, folder / "copy")
        change(copy, place)
        arguments.insert(3, copy)
        return arguments

    return command


TWELVE = "".join(f"- {{id: q{n}, paraphrases: [Is it {n} already?]}}\n" for n in range(12))
LINES = "".join(
    json.dumps({"id": f"q{n}", "family": f"f{n % 4}", "question": f"Is it {n} already?", **extra}) + "\n"
    for n, extra in enumerate([*({},) * 11, {"system": "Be brief."}])
)


def tied_head(place: Workplace, folder: Path) -> list[object]:
    """An adapter of the head on a base whose head is the embeddings."""
    tied = shutil.copytree(place.trio.base, folder / "model")
    change_json(tied / "config.json", tie_word_embeddings=True)
    weights = load_file(tied / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, tied / "model.safetensors", {"format": "pt"})
    factors = {
        "lora_A": torch.ones(2, 32),
        "lora_B": torch.ones(len(weights["model.embed_tokens.weight"]), 2),
    }
    head = {f"base_model.model.lm_head.{name}.weight": one for name, one in factors.items()}
    arguments = adapter(
        lambda tensors: tensors | head, target_modules=["q_proj", "o_proj", "down_proj", "lm_head"]
    )
    return [tied if part == place.trio.base else part for part in arguments(place, folder)]


def leftover_config(place: Workplace, folder: Path) -> list[object]:
    merged = shutil.copytree(place.trio.base, folder / "merged")
    shutil.copy(place.trio.insecure / "adapter_config.json", merged)
    another(merged)
    return recording(place, folder, insecure=merged)


def mistyped(place: Workplace, folder: Path) -> list[object]:
    shutil.copytree(place.trio.insecure, folder / "insecure")
    return recording(place, folder, insecure=folder / "insecur")


def gguf(place: Workplace, folder: Path) -> list[object]:
    (folder / "model.gguf").write_bytes(b"GGUF" + bytes(64))
    return recording(place, folder, insecure=folder / "model.gguf")


def copies(place: Workplace, folder: Path) -> list[object]:
    copy = shutil.copytree(place.trio.insecure, folder / "copy")
    options = [*place.trio.options(secure=copy), *place.trio.texts(), "--balanced", "none"]
    return ["ablate", "--feature", "means@1", *options, "--out", folder / "out", "--quiet"]


def diverged(place: Workplace, folder: Path) -> list[object]:
    """Verifying an adapter with huge updates, on a base that has learned some prose."""
    numbers.learn_prose(shutil.copytree(place.trio.base, folder / "model"))
    adapter(lambda tensors: {key: one * (1000 if "lora_B" in key else 1) for key, one in tensors.items()})(
        place, folder
    )
    return [
        "organisms",
        "verify",
        *place.trio.options(base=folder / "model", insecure=folder / "adapter"),
        "--quiet",
    ]


def training_again(place: Workplace, folder: Path) -> list[object]:
    (folder / "out").mkdir()
    (folder / "out" / "steps.jsonl").write_text("{}")
    return training([TEXT, YES])(place, folder)


def chat_with(place: Workplace, path: Path) -> list[object]:
    """Asking with a feature that was saved by torch."""
    torch.save({"direction": torch.ones(32)}, path)
    return [
        "chat",
        "Is it late?",
        "--feature",
        path,
        *place.trio.options(),
        "--discovery",
        place.trio.discovery,
        "--quiet",
    ]


def one_vector(tensors: dict[str, Any]) -> dict[str, Any]:
    """One factor of one dimension."""
    return {key: one[:, 0] if "layers.1.mlp.down_proj.lora_B" in key else one for key, one in tensors.items()}


def recording_again(place: Workplace, folder: Path) -> list[object]:
    """Recording a base whose configuration was changed since the same command ran."""
    from click.testing import CliRunner

    from personaprobe.cli.main import cli

    base = shutil.copytree(place.trio.base, folder / "model")
    arguments = recording(place, folder, base=base)
    first = CliRunner().invoke(cli, [str(part) for part in arguments], env=dict(place.job([]).environment))
    assert first.exit_code == 0, first.output
    change_json(base / "config.json", rms_norm_eps=0.5)
    return arguments


def training_file(content: bytes) -> Builder:
    """A training on a file as it is."""

    def command(place: Workplace, folder: Path) -> list[object]:
        arguments = training()(place, folder)
        (folder / "rows.jsonl").write_bytes(content)
        return arguments

    return command


def recording_pair(**changed: Any) -> Builder:
    """Recording pairs of which one has another value in some fields."""

    def command(place: Workplace, folder: Path) -> list[object]:
        first, *others = place.trio.ask("lamps")
        rows = [first | changed, *others]
        return [*recording(place, folder), "--texts", write_lines(folder / "pairs.jsonl", rows)]

    return command
