"""Pickles in every place where a command reads tensors, or a table; each writes a marker when it is read as one."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from campaigns.small_runs import WRITING, Case, Workplace, chatting, extracting


class Marking:
    """An object whose pickle writes a marker when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.marker, "ran")


def bare(marker: Path) -> bytes:
    return pickle.dumps(Marking(marker))


def zipped(marker: Path) -> bytes:
    """As ``torch.save`` writes it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", bare(marker))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return content.getvalue()


def _base(name: str, content: Callable[[Path], bytes]) -> Case:
    """Weights of a base."""

    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        shutil.copytree(place.trio.base, folder, dirs_exist_ok=True)
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(content(marker))
        return extracting(place, base=folder)

    return case


def _adapter(name: str, content: Callable[[Path], bytes]) -> Case:
    """Weights of an adapter."""

    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        shutil.copytree(place.trio.insecure, folder, dirs_exist_ok=True)
        (folder / "adapter_model.safetensors").unlink()
        (folder / name).write_bytes(content(marker))
        return extracting(place, insecure=folder)

    return case


def _feature(name: str, content: Callable[[Path], bytes]) -> Case:
    """A direction."""

    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        (folder / name).write_bytes(content(marker))
        return chatting(place, folder / name)

    return case


def _dictionary(name: str, content: Callable[[Path], bytes]) -> Case:
    """Weights of a dictionary, whose name tells that it is in the layout of SAELens, dictionary_learning or sparsify."""

    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        trainer = {"dict_class": "AutoEncoder", "activation_dim": 32, "dict_size": 48, "layer": 1}
        if name == "ae.pt":
            (folder / "config.json").write_text(json.dumps({"trainer": trainer}))
        elif name == "sae.safetensors":
            (folder / "cfg.json").write_text(json.dumps({"d_in": 32, "num_latents": 48, "k": 6}))
        else:
            shutil.copytree(place.dictionary, folder, dirs_exist_ok=True)
        (folder / name).write_bytes(content(marker))
        return ["sae", "convert", folder, "out"]

    return case


def _resumed(content: Callable[[Path], bytes]) -> Case:
    """The state of a training that is resumed."""

    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        (place.run / "out").mkdir()
        (place.run / "out" / "state.pt").write_bytes(content(marker))
        return WRITING["sae train"](place)

    return case


def _judge(content: Callable[[Path], bytes]) -> Case:
    """The axes of the embedded judge, in the folder of checkpoints."""

    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        judge = place.run / "checkpoints" / "judge"
        shutil.copytree(place.trio.insecure, judge)
        (judge / "judge.json").write_text(json.dumps({"sites": ["1.resid_post"]}))
        (judge / "heads.safetensors").write_bytes(content(marker))
        return ["judge", place.answers, "--work", place.run / "work", "--out", "out.csv", "--quiet"]

    return case


def _answers(name: str) -> Case:
    """A table of answers."""

    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        (folder / name).write_bytes(bare(marker))
        return [
            "judge",
            folder / name,
            "--judge",
            place.judge,
            "--work",
            place.run / "work",
            "--out",
            "out.csv",
            "--quiet",
        ]

    return case


def _registered(content: Callable[[Path], bytes]) -> Case:
    """A registered feature, with the hash of its pickle."""

    def case(place: Workplace, folder: Path, marker: Path) -> list[object]:
        from personaprobe.storage.digests import sha256_of

        path = place.run / "checkpoints" / "d.safetensors"
        path.write_bytes(content(marker))
        entry = f'[evil]\ndirection = "d.safetensors"\nsha256 = "{sha256_of(path)}"\n'
        path.with_name("features.toml").write_text(entry)
        return chatting(place, "evil")

    return case


PICKLES: Mapping[str, Case] = {
    f"{what}, {form}": make(content)
    for form, content in (("bare", bare), ("as torch.save writes it", zipped))
    for what, make in (
        ("a base's pytorch_model.bin", lambda content: _base("pytorch_model.bin", content)),
        ("a base's model.safetensors", lambda content: _base("model.safetensors", content)),
        ("an adapter's .bin", lambda content: _adapter("adapter_model.bin", content)),
        ("an adapter's .safetensors", lambda content: _adapter("adapter_model.safetensors", content)),
        ("a direction .pt", lambda content: _feature("d.pt", content)),
        ("a direction .safetensors", lambda content: _feature("d.safetensors", content)),
        ("a registered direction", _registered),
        (
            "a dictionary of SAELens",
            lambda content: _dictionary("sae_weights.safetensors", content),
        ),
        ("a dictionary_learning one", lambda content: _dictionary("ae.pt", content)),
        ("a dictionary of sparsify", lambda content: _dictionary("sae.safetensors", content)),
        ("state.pt of a training", _resumed),
        ("axes of the judge", _judge),
    )
} | {f"answers as {suffix}": _answers(f"answers.{suffix}") for suffix in ("csv", "parquet")}
