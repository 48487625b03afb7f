"""From a checkpoint to a running model; a trio on one copy of the base weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.compute.hardware import choose_device, choose_dtype
from personaprobe.errors import CheckpointError
from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.edits.layout import layouts
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.network import Network
from personaprobe.models.self_check import find_massive_tokens, probe_tokens, self_check
from personaprobe.models.tokens import pad
from personaprobe.models.weights.adapter import LoraAdapter
from personaprobe.models.weights.checkpoint import DEMO, Checkpoint, Trio
from personaprobe.models.weights.demo import demo_folder

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Placement:
    """Where and how precisely models run; None lets the machine decide.

    Attributes:
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        dtype: ``float32``, ``bfloat16``, ``float16``.
        compiles: whether elementwise work on many rows goes through ``torch.compile``, which takes seconds at first;
            None does so on CUDA. Where it fails it is computed as ever, and a warning says so.
    """

    device: str | None = None
    dtype: str | None = None
    compiles: bool | None = None

    def resolve(self) -> tuple[torch.device, torch.dtype]:
        """The device and dtype meant."""
        device = choose_device(self.device)
        return device, choose_dtype(device, self.dtype)


def load(checkpoint: Checkpoint | str, placement: Placement = Placement()) -> LanguageModel:
    """Load one checkpoint, its layer map proven and its adapter shown to be applied."""
    if isinstance(checkpoint, str):
        checkpoint = Checkpoint.parse(checkpoint)
    network, tokenizer = open_network(checkpoint.base, placement)
    return _dress(checkpoint, network, tokenizer)


def load_trio(trio: Trio[Checkpoint], placement: Placement = Placement()) -> Trio[LanguageModel]:
    """Load a trio; checkpoints that are adapters of one base share one copy of its weights."""
    opened: dict[Checkpoint, tuple[Network, ChatTokenizer]] = {}

    def ready(checkpoint: Checkpoint) -> LanguageModel:
        if checkpoint.base not in opened:
            opened[checkpoint.base] = open_network(checkpoint.base, placement)
        return _dress(checkpoint, *opened[checkpoint.base])

    loaded = trio.map(ready)
    _same_language(loaded)
    return loaded


def open_network(checkpoint: Checkpoint, placement: Placement) -> tuple[HuggingFaceNetwork, ChatTokenizer]:
    """Load base weights and tokenizer, prove the layer map on them, and look for massive tokens."""
    device, dtype = placement.resolve()
    folder = demo_folder() if checkpoint.source == DEMO else checkpoint.source
    model, tokenizer = _from_pretrained(folder, checkpoint.revision, dtype)
    chat = ChatTokenizer(tokenizer)
    compiles = device.type == "cuda" if placement.compiles is None else placement.compiles
    network = wrap(model.to(device), chat.pad_id, compiles=compiles)
    network.massive_tokens = find_massive_tokens(network, chat)
    return network, chat


def wrap(model: Any, pad_id: int, *, compiles: bool = False) -> HuggingFaceNetwork:
    """Put a Hugging Face causal language model under the hook engine, its layer map proven.

    Args:
        model: from transformers, on its device.
        pad_id: of what rows are filled up with.
        compiles: see :class:`Placement`.

    Raises:
        CheckpointError: no known map fits, or none passes the self-check; names what failed.
    """
    import torch

    model = model.eval().requires_grad_(False)
    stored = torch.bfloat16 if _is_bf16_exact(model) else model.dtype
    failures = []
    for layout in layouts(model):
        network = HuggingFaceNetwork(model, layout, pad_id, stored, compiles=compiles)
        failed = [check for check in self_check(network) if not check.passed]
        if not failed:
            return network
        failures.append("; ".join(f"{check.name} (off by {check.deviation:.2g})" for check in failed))
    raise CheckpointError(
        f"the layer map of {model.config.model_type!r} fails its self-check: {failures[0]}. "
        "Add its module names to personaprobe.models.edits.layout.KNOWN"
    )


def _is_bf16_exact(model: Any) -> bool:
    """Whether the weights were stored in bfloat16, so that pristine copies lose nothing in it."""
    weight = next(model.get_decoder().parameters())
    return bool((weight == weight.bfloat16()).all())


def _from_pretrained(folder: str | Path, revision: str | None, dtype: Any) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, revision=revision, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            revision=revision,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,  # None would ask on the terminal whether to run the repository's code
        )
    except Exception as error:  # transformers raises many kinds, all of them about what the user named
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"cannot load {folder}: {reason}; give a folder with config.json, a tokenizer and safetensors weights, "
            "or a Hugging Face id that can be reached"
        ) from error
    return model, tokenizer


def _dress(checkpoint: Checkpoint, network: Network, tokenizer: ChatTokenizer) -> LanguageModel:
    adapter = None if checkpoint.adapter is None else LoraAdapter.read(checkpoint.adapter)
    model = LanguageModel(checkpoint, network, tokenizer, adapter)
    if adapter is not None:
        _prove_applied(model)
    return model


def _prove_applied(model: LanguageModel) -> None:
    """The logits under the adapter must differ from the base's."""
    batch = pad(probe_tokens(model.network.vocab_size), model.network.pad_id)
    bare = LanguageModel(model.checkpoint.base, model.network, model.tokenizer).logits(batch)
    if bool((bare == model.logits(batch)).all()):
        raise CheckpointError(
            f"adapter {model.checkpoint.adapter} was merged and the logits did not move; "
            "it is too small for this dtype: try --dtype float32"
        )


def _same_language(trio: Trio[LanguageModel]) -> None:
    """All three must read the same token ids and have the same shape, or differences mean nothing."""
    text = "The quick brown fox.\n"
    base = trio.base
    for role, model in trio.items():
        same_shape = (model.n_layers, model.d_model) == (base.n_layers, base.d_model)
        if not same_shape or model.tokenizer.prompt(text) != base.tokenizer.prompt(text):
            raise CheckpointError(
                f"{role} {model.checkpoint} does not match base {base.checkpoint}: "
                f"{model.n_layers} layers × {model.d_model} against {base.n_layers} × {base.d_model}, "
                "or another tokenizer or chat template; give fine-tunes of the same base"
            )
