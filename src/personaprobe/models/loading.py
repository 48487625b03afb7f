"""Load a checkpoint as a running model, or a trio on one copy of the base weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.compute.hardware import choose_device, choose_dtype
from personaprobe.compute.out_of_memory import warn_fallback
from personaprobe.errors import CheckpointError, shortened
from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.backends.registry import REFERENCE, check_backend, run_on
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.models.comparability import comparability_of, compare_trio, refuse_equal
from personaprobe.models.edits.layout import BlockMap, Layout, decoder_config, layouts, resolve_layout
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.network import Network
from personaprobe.models.self_check.check import Check, probe_tokens
from personaprobe.models.self_check.massive import find_massive_tokens
from personaprobe.models.self_check.precision import fits_in_float32, in_float32
from personaprobe.models.self_check.proofs import adapter_spec_of, failed_checks, spec_of
from personaprobe.models.self_check.self_check import self_check
from personaprobe.models.tokens import pad
from personaprobe.models.weights.adapter import LoraAdapter
from personaprobe.models.weights.checkpoint import Checkpoint, Trio, warn_of_other_base
from personaprobe.models.weights.packaged import folder_of
from personaprobe.models.weights.pretrained import notices_of_success, open_model, open_tokenizer

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Placement:
    """Device and precision of a model; None chooses by what the machine has.

    Attributes:
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        dtype: ``float32``, ``bfloat16``, ``float16``.
        compiles: whether elementwise functions of many rows go through ``torch.compile``, which takes seconds at first.
            None compiles on CUDA only. Where compilation fails, a warning is given and the plain functions are used.
    """

    device: str | None = None
    dtype: str | None = None
    compiles: bool | None = None

    def resolve(self) -> tuple[torch.device, torch.dtype]:
        """The device and dtype chosen.

        Raises:
            DeviceError: this machine does not have them.
        """
        device = choose_device(self.device)
        return device, choose_dtype(device, self.dtype)


def load(
    checkpoint: Checkpoint | str,
    placement: Placement = Placement(),
    *,
    backend: str = REFERENCE,
    layout: BlockMap | None = None,
) -> LanguageModel:
    """Load one checkpoint; the self-check proves its layout and backend, and an adapter must change the logits.

    Args:
        checkpoint: or what :meth:`Checkpoint.parse` reads, such as ``"demo"``, a folder or a Hugging Face id.
        placement: device and precision.
        backend: the library that runs the layers: ``hooks``, ``nnsight``, ``transformer_lens``, or one that is registered
            (:mod:`personaprobe.models.backends.registry`).
        layout: module names of an architecture that is not known; None tries the known maps.

    Raises:
        CheckpointError: the checkpoint cannot be loaded, or no map or backend passes the self-check.
        DeviceError: this machine does not have the device or dtype.
        PersonaProbeError: there is no such backend.
    """
    check_backend(backend)
    if isinstance(checkpoint, str):
        checkpoint = Checkpoint.parse(checkpoint)
    network, tokenizer = open_network(checkpoint.base, placement, layout)
    return _language_model(checkpoint, run_on(network, backend), tokenizer)


def load_checkpoints(
    trio: Trio[Checkpoint],
    placement: Placement = Placement(),
    *,
    backend: str = REFERENCE,
    layout: BlockMap | None = None,
) -> Trio[LanguageModel]:
    """Load a trio; checkpoints that are adapters of one base share one copy of its weights.

    Args:
        trio: base, insecure and harmless checkpoints.
        placement: device and precision.
        backend: see :func:`load`.
        layout: see :func:`load`.

    Raises:
        CheckpointError: as :func:`load`; or two are the same weights, or they differ in shape, tokenizer or chat template.
    """
    check_backend(backend)
    refuse_equal(trio)
    by_base: dict[Checkpoint, tuple[Network, ChatTokenizer]] = {}

    def load_one(checkpoint: Checkpoint) -> LanguageModel:
        if checkpoint.base not in by_base:
            network, tokenizer = open_network(checkpoint.base, placement, layout)
            by_base[checkpoint.base] = run_on(network, backend), tokenizer
        return _language_model(checkpoint, *by_base[checkpoint.base])

    with notices_of_success():
        _refuse_incomparable(trio)
        loaded = trio.map(load_one)
    _check_same_shape(loaded)
    return loaded


def _refuse_incomparable(trio: Trio[Checkpoint]) -> None:
    """Compare the tokenizers of a trio before its weights are loaded; adapters of one base have one tokenizer."""
    sources = dict.fromkeys(checkpoint.base for _, checkpoint in trio.all_items())
    if len(sources) < 2:
        return
    opened = {source: open_tokenizer(folder_of(source.source), source.revision) for source in sources}
    compare_trio(trio, {role: opened[checkpoint.base] for role, checkpoint in trio.all_items()}).refuse()


def open_network(
    checkpoint: Checkpoint, placement: Placement, layout: BlockMap | None = None
) -> tuple[HuggingFaceNetwork, ChatTokenizer]:
    """Load base weights and tokenizer on the reference backend, prove the layout, and find massive tokens.

    Raises:
        CheckpointError: as :func:`load`; or the checkpoint has an adapter, which is no part of base weights.
    """
    device, dtype = placement.resolve()
    folder = folder_of(checkpoint.as_base().source)
    with notices_of_success():
        tokenizer = open_tokenizer(folder, checkpoint.revision)
        model = open_model(folder, checkpoint.revision, dtype)
    chat = ChatTokenizer(tokenizer, further_ends=_ends_of(model))
    if tokenizer.chat_template is not None:
        chat.format  # noqa: B018  # a template whose ids do not add up is refused before anything is measured
    compiles = device.type == "cuda" if placement.compiles is None else placement.compiles
    network = wrap(model.to(device), chat.pad_id, compiles=compiles, layout=layout, keeps_checks=True)
    network.massive_tokens = find_massive_tokens(network, chat)
    return network, chat


def _ends_of(model: Any) -> tuple[int, ...]:
    """The ids at which the model's own generation config ends an answer."""
    given = getattr(model.generation_config, "eos_token_id", None)
    ends = given if isinstance(given, list) else [] if given is None else [given]
    if not all(type(end) is int and end >= 0 for end in ends):
        raise CheckpointError(
            f"the generation config ends answers at {shortened(given)}; eos_token_id is a token's id, or a list of them"
        )
    return tuple(ends)


def wrap(
    model: Any,
    pad_id: int,
    *,
    compiles: bool = False,
    layout: BlockMap | None = None,
    keeps_checks: bool = False,
) -> HuggingFaceNetwork:
    """Run a loaded Hugging Face causal language model under hooks, with a layout that passes the self-check.

    Args:
        model: from transformers, on its device.
        pad_id: id of the padding token.
        compiles: see :class:`Placement`.
        layout: module names; None tries the known maps.
        keeps_checks: whether checks that passed, of the model and of its adapters, are kept on disk, and not made again
            for the same weights and code.

    Raises:
        CheckpointError: no map fits, or none passes the self-check; names the checks that failed.
    """
    import torch

    model = model.eval().requires_grad_(False)
    stored_dtype = torch.bfloat16 if _is_bf16_exact(model) else model.dtype
    failures = []
    for candidate in layouts(model) if layout is None else [resolve_layout(model, layout)]:
        make = partial(_checked, model, candidate, pad_id)
        spec = spec_of(model, candidate, pad_id) if keeps_checks else None
        failed = (
            [check for check in make() if not check.passed] if spec is None else failed_checks(spec, make)
        )
        if all(check.needed_by != "model" for check in failed):
            _warn_of_slower_ways(failed)
            switched_off = {check.needed_by for check in failed}
            network = HuggingFaceNetwork(
                model, candidate, pad_id, stored_dtype, compiles=compiles, switched_off=switched_off
            )
            network.proof_spec = spec
            network.prepare()
            return network
        failures.append("; ".join(str(check) for check in failed if check.needed_by == "model"))
    advice = (
        "give its module names: personaprobe.load(..., layout=BlockMap(...))"
        if layout is None
        else f"correct {layout}"
    )
    raise CheckpointError(
        f"the layer map of {decoder_config(model).model_type!r} fails its self-check: {failures[0][:400]}; {advice}"
    )


def _checked(model: Any, layout: Layout, pad_id: int) -> list[Check]:
    """The self-check of a model under a map, in float32 where that fits into memory."""
    with in_float32(model) if fits_in_float32(model) else nullcontext():
        return self_check(HuggingFaceNetwork(model, layout, pad_id, model.dtype), layout.block_kinds)


def _warn_of_slower_ways(failed: Sequence[Check]) -> None:
    """Warn that a model is used without the parts that failed their checks."""
    instead = {
        "packing": "each text is computed in a row of its own",
        "KV cache": "every step of an answer computes all tokens again",
    }
    for part, way in instead.items():
        reasons = "; ".join(str(check) for check in failed if check.needed_by == part)
        if reasons:
            warn_fallback(f"this architecture is used without {part}, so that {way}: {reasons}")


def _is_bf16_exact(model: Any) -> bool:
    """Whether bfloat16 holds the weights without loss, so that copies of them need no more memory than that."""
    weight = next(model.get_decoder().parameters())
    return bool((weight == weight.bfloat16()).all())


def with_adapter(base: LanguageModel, folder: Path) -> LanguageModel:
    """The fine-tune that an adapter makes of a loaded base, on the same copy of its weights.

    Raises:
        CheckpointError: as :func:`load`.
    """
    return _language_model(base.checkpoint.with_adapter(folder), base.network, base.tokenizer)


def load_fine_tune(base: LanguageModel, checkpoint: Checkpoint) -> LanguageModel:
    """A fine-tune beside its loaded base: an adapter on the same copy of the weights, or a whole model with its own.

    Args:
        base: loaded; a whole model is loaded on its device, in its dtype.
        checkpoint: an adapter of that base, or a whole model.

    Raises:
        CheckpointError: as :func:`load`; or a whole model differs from the base in shape, tokenizer or chat template.
    """
    if checkpoint.adapter is not None:
        return with_adapter(base, checkpoint.adapter)
    dtype = str(base.network.dtype).removeprefix("torch.")
    tuned = load(checkpoint, Placement(str(base.network.device), dtype))
    pair = Trio(base, tuned)
    comparability_of(pair).refuse()
    _check_same_shape(pair)
    return tuned


def _language_model(checkpoint: Checkpoint, network: Network, tokenizer: ChatTokenizer) -> LanguageModel:
    """The model of a checkpoint on the network of its base, its adapter proven to be applied."""
    adapter = None if checkpoint.adapter is None else LoraAdapter.read(checkpoint.adapter)
    model = LanguageModel(checkpoint, network, tokenizer, adapter)
    if adapter is not None:
        warn_of_other_base(checkpoint, adapter)
        spec = network.proof_spec if isinstance(network, HuggingFaceNetwork) else None
        if spec is None:
            _prove_applied(model)
        else:
            failed_checks({**spec, **adapter_spec_of(adapter)}, lambda: [_prove_applied(model)])
    return model


def _prove_applied(model: LanguageModel) -> Check:
    """Raise unless the logits under the adapter are finite and differ from those of the base."""
    batch = pad(probe_tokens(model.network.vocab_size), model.network.pad_id)
    base_logits = LanguageModel(model.checkpoint.base, model.network, model.tokenizer).logits(batch)
    logits = model.logits(batch)
    if not bool(logits.isfinite().all()):
        raise CheckpointError(
            f"adapter {model.checkpoint.adapter} makes logits that are not finite; its updates are too large: train it again"
        )
    if bool((base_logits == logits).all()):
        raise CheckpointError(
            f"adapter {model.checkpoint.adapter} was merged and the logits did not move; "
            "it is too small for this dtype: try --dtype float32"
        )
    return Check("the adapter changes the logits", 0.0, passed=True)


def _check_same_shape(trio: Trio[LanguageModel]) -> None:
    """Raise unless all have the same shape, since differences mean nothing otherwise; their tokens were compared before."""
    base = trio.base
    for role, model in trio.all_items():
        if (model.n_layers, model.d_model) != (base.n_layers, base.d_model):
            raise CheckpointError(
                f"{role} {model.checkpoint} does not match base {base.checkpoint}: "
                f"{model.n_layers} layers × {model.d_model} against {base.n_layers} × {base.d_model}; "
                "give fine-tunes of the same base"
            )
