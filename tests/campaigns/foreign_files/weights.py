"""The readers of adapters, dictionaries, directions, stores and states, compared with the libraries they come from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from campaigns.foreign_files.plain_files import same
from campaigns.fuzzing import Reader
from foreign_adapters import our_logits, peft_logits
from personaprobe.features.activations.store import ActivationStore
from personaprobe.features.directions.direction import Calibration, Direction
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.formats.dictionary_folder import load_dictionary
from personaprobe.features.sae.formats.saelens import save_dictionary
from personaprobe.features.sae.training.architectures.topk import TopKArchitecture
from personaprobe.features.sae.training.trainer import SAERecipe, SAETrainer
from personaprobe.models.weights.adapter import LoraAdapter
from personaprobe.organisms.registry import load_trio
from personaprobe.site import Site
from random_dictionaries import ACTIVATIONS, D_MODEL, D_SAE, ROWS, numbers, random_dictionary
from tiny_models import tiny_model
from tiny_trio import TinyTrio, write_adapter

CLOSE = 1e-3
"""Largest difference from another library, relative to the largest value."""


NO_MATTER = {
    "device": "cpu",
    "dtype": "float32",
    "sae_lens_version": "6.0.0",
    "sae_lens_training_version": "6.0.0",
}
"""Fields of SAELens that change no number, and that it cannot read where they are odd."""


DEFAULTS = {"architecture": "standard", "d_in": D_MODEL, "d_sae": D_SAE, "normalize_activations": "none"}
"""What is meant where SAELens, which cannot read a folder without it, finds nothing."""


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def written(write: Callable[[Path], object], name: str = "") -> dict[str, bytes]:
    """The files that a function writes into a folder."""
    with TemporaryDirectory() as temporary:
        place = Path(temporary) / name
        place.mkdir(parents=True, exist_ok=True)
        write(place)
        return contents(Path(temporary))


def far(ours: torch.Tensor, theirs: torch.Tensor) -> str | None:
    """How far two tensors are from each other, where that is too far."""
    if ours.shape != theirs.shape:
        return f"shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}"
    if bool(ours.isfinite().all()) and not bool(theirs.isfinite().all()):
        return "finite, where the other library is not"
    if not bool(ours.isfinite().all()):
        return "not finite"
    difference, size = float((ours - theirs).abs().max()), max(1.0, float(theirs.abs().max()))
    return None if difference <= CLOSE * size else f"off by {difference:.3g} of {size:.3g}"


def adapters() -> Reader:
    """A LoRA of three modules; an accepted folder moves the logits by what PEFT makes of it."""

    def write(folder: Path) -> None:
        write_adapter(folder / "adapter", seed=1)

    def wrong(folder: Path, _: LoraAdapter) -> str | None:
        try:
            ours = our_logits(tiny_model("llama"), folder / "adapter")
        except ValueError as error:  # every error of ours is one: refused where it is put on the base
            return None if str(error).strip() else "a refusal without words"
        return far(ours, peft_logits(tiny_model("llama"), folder / "adapter"))

    return Reader(
        "adapter folder", written(write), lambda folder: LoraAdapter.read(folder / "adapter"), wrong, every=5
    )


def saelens(kind: str) -> Reader:
    """A dictionary in SAELens' format."""

    def wrong(folder: Path, sae: Dictionary) -> str | None:
        from sae_lens import SAE

        config = json.loads((folder / "cfg.json").read_text())
        given = {name: value for name, value in config.items() if value not in (None, "")}
        (folder / "cfg.json").write_text(json.dumps({**DEFAULTS, **given, **NO_MATTER}))
        theirs = SAE.load_from_disk(folder, device="cpu", dtype="float32")
        return far(sae.decode(sae.encode(ROWS)), theirs(ROWS)) or far(sae.encode(ROWS), theirs.encode(ROWS))

    files = written(lambda folder: save_dictionary(random_dictionary(kind), folder))
    return Reader(f"SAELens folder, {kind}", files, load_dictionary, wrong, every=2)


def dictionary_learning() -> Reader:
    """A dictionary of dictionary_learning; an accepted one computes what its tensors say."""
    weights = {
        "encoder.weight": numbers(D_SAE, D_MODEL, seed=1),
        "encoder.bias": numbers(D_SAE, seed=2),
        "decoder.weight": numbers(D_MODEL, D_SAE, seed=3),
        "b_dec": numbers(D_MODEL),
        "k": torch.tensor(4),
    }
    trainer = {
        "dict_class": "AutoEncoderTopK",
        "activation_dim": D_MODEL,
        "dict_size": D_SAE,
        "layer": 7,
        "lm_name": "m",
    }

    def write(folder: Path) -> None:
        torch.save(weights, folder / "ae.pt")
        (folder / "config.json").write_text(
            json.dumps({"trainer": {**trainer, "k": 4}, "buffer": {"ctx_len": 128}})
        )

    def wrong(folder: Path, sae: Dictionary) -> str | None:
        found = torch.load(folder / "ae.pt", weights_only=True)
        centre = found["b_dec"].float()
        pre = (ROWS - centre) @ found["encoder.weight"].float().T + found["encoder.bias"].float()
        acts = largest(pre, int(found["k"]))
        return far(sae.decode(sae.encode(ROWS)), acts @ found["decoder.weight"].float().T + centre)

    return Reader("dictionary_learning folder", written(write), load_dictionary, wrong)


def sparsify() -> Reader:
    """A dictionary of sparsify."""
    weights = {
        "encoder.weight": numbers(D_SAE, D_MODEL, seed=1),
        "encoder.bias": numbers(D_SAE, seed=2),
        "W_dec": numbers(D_SAE, D_MODEL, seed=3),
        "b_dec": numbers(D_MODEL),
    }

    def write(folder: Path) -> None:
        save_file(weights, folder / "sae.safetensors")
        (folder / "cfg.json").write_text(json.dumps({"k": 3, "d_in": D_MODEL, "num_latents": D_SAE}))

    def wrong(folder: Path, sae: Dictionary) -> str | None:
        [place] = folder.iterdir()
        found = {name: tensor.float() for name, tensor in load_file(place / "sae.safetensors").items()}
        k = json.loads((place / "cfg.json").read_text())["k"]
        pre = (ROWS - found["b_dec"]) @ found["encoder.weight"].T + found["encoder.bias"]
        return far(sae.decode(sae.encode(ROWS)), largest(pre, k) @ found["W_dec"] + found["b_dec"])

    files = written(write, "layers.5.mlp")
    return Reader("sparsify folder", files, lambda folder: load_dictionary(folder / "layers.5.mlp"), wrong)


def largest(pre: torch.Tensor, k: int) -> torch.Tensor:
    """The ``k`` largest positive numbers of every row; 0 elsewhere."""
    values, chosen = pre.relu().topk(k, dim=-1)
    return torch.zeros_like(pre).scatter(-1, chosen, values)


def directions() -> Reader:
    """A direction with calibrations."""
    vector = torch.nn.functional.normalize(numbers(16), dim=0)
    direction = Direction(Site(1), vector, "means", {1: Calibration(0.5, 1.5), 2: Calibration(-1.0, 2.0)})

    def wrong(folder: Path, read: Direction) -> str | None:
        theirs = load_file(folder / "d.safetensors")["direction"].float()
        finite = all(
            map(
                torch.isfinite,
                (torch.tensor(vars(c)[name]) for c in read.calibrations.values() for name in vars(c)),
            )
        )
        return far(read.vector, theirs / theirs.norm()) or (None if finite else "a calibration is not finite")

    files = written(lambda folder: direction.save(folder / "d.safetensors"))
    return Reader("direction", files, lambda folder: Direction.load(folder / "d.safetensors"), wrong)


def stores(trio: TinyTrio) -> Reader:
    """An activation store; what is accepted is every number that was recorded."""
    from personaprobe.features.activations.recording import record
    from personaprobe.questions.pairs import load_prompts

    models = load_trio(base=str(trio.base), insecure=str(trio.insecure), dtype="float32")
    with TemporaryDirectory() as temporary:
        pairs = load_prompts(trio.discovery)
        store = record(models.insecure, pairs, ["1.resid_post"], keep="tokens", home=Path(temporary))
        files, recorded = contents(store.folder), store.read("1.resid_post", role=None)
        labels = store.index.to_pylist()

    def read(folder: Path) -> Any:
        store = ActivationStore.open(folder)
        return store.read("1.resid_post", role=None), store.index.to_pylist()

    def wrong(_: Path, value: Any) -> str | None:
        return None if same(value, (recorded, labels)) else "other rows than were recorded"

    return Reader("activation store", files, read, wrong)


def training_states() -> Reader:
    """The state of an interrupted training of a dictionary."""
    recipe = SAERecipe(TopKArchitecture(4), d_sae=24, steps=20)
    rows = numbers(64, D_MODEL)

    def trainer() -> SAETrainer:
        return SAETrainer(recipe, rows)

    def write(folder: Path) -> None:
        started = trainer()
        for _ in range(3):
            started.step(rows)
        started.save(folder)

    def read(folder: Path) -> Mapping[str, Any]:
        resumed = trainer()
        resumed.resume(folder)
        resumed.step(rows)
        return resumed.autoencoder.state_dict()

    files = written(write)
    with TemporaryDirectory() as temporary:
        for name, content in files.items():
            (Path(temporary) / name).write_bytes(content)
        whole = {name: tensor.clone() for name, tensor in read(Path(temporary)).items()}

    def wrong(_: Path, value: Mapping[str, Any]) -> str | None:
        return None if same(dict(value), whole) else "goes on to other weights"

    return Reader("state of a training", files, read, wrong)


def readers(trio: TinyTrio) -> list[Reader]:
    """One for each kind of weights."""
    dictionaries = [saelens(kind) for kind in ACTIVATIONS]
    others = [dictionary_learning(), sparsify(), directions(), stores(trio), training_states()]
    return [adapters(), *dictionaries, *others]
