"""Folders of dictionary_learning (Marks et al.), read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from personaprobe.errors import FeatureError, suggest
from personaprobe.features.sae.activation_functions import ActivationFunction, Gated, JumpReLU, ReLU, TopK
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.formats.hook_points import agreed_site
from personaprobe.features.sae.formats.options import Options, refuse_other_tensors
from personaprobe.features.sae.formats.weight_files import (
    matrix,
    one_threshold,
    read_config_file,
    read_weights,
    refuse_missing_keys,
    refuse_other_shapes,
)

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "ae.pt"

_LINEAR = frozenset({"encoder.weight", "encoder.bias", "decoder.weight"})
_MATRICES = frozenset({"W_enc", "b_enc", "W_dec"})

TENSORS: Mapping[str, frozenset[str]] = {
    "AutoEncoder": _LINEAR | {"bias"},
    "AutoEncoderTopK": _LINEAR | _MATRICES | {"b_dec", "k", "threshold"},
    "BatchTopKSAE": _LINEAR | _MATRICES | {"b_dec", "k", "threshold"},
    "MatryoshkaBatchTopKSAE": _LINEAR | _MATRICES | {"b_dec", "k", "threshold", "group_sizes"},
    "JumpReluAutoEncoder": _LINEAR | _MATRICES | {"b_dec", "threshold"},
    "GatedAutoEncoder": _LINEAR - {"encoder.bias"} | {"decoder_bias", "gate_bias", "mag_bias", "r_mag"},
}
"""Tensors by class. The threshold of a TopK belongs to another way to encode that its class has and does not use."""

ONE_THRESHOLD = ("AutoEncoderTopK", "BatchTopKSAE", "MatryoshkaBatchTopKSAE")
"""Classes whose threshold is one number."""

_WEIGHTS = {"encoder.weight", "decoder.weight", "W_enc", "W_dec"}
_SCALARS = {"k", "threshold", "group_sizes"}

HARMLESS = frozenset(
    {
        *(
            "trainer_class",
            "lm_name",
            "wandb_name",
            "device",
            "seed",
            "steps",
            "lr",
            "warmup_steps",
            "decay_start",
        ),
        *(
            "l1_penalty",
            "sparsity_penalty",
            "initial_sparsity_penalty",
            "sparsity_warmup_steps",
            "resample_steps",
        ),
        *(
            "auxk_alpha",
            "top_k_aux",
            "threshold_beta",
            "threshold_start_step",
            "k_anneal_steps",
            "target_l0",
            "bandwidth",
        ),
        *(
            "group_fractions",
            "group_weights",
            "group_sizes",
            "norm_factor",
            "num_tokens",
            "sparsity_function",
        ),
        *("anneal_start", "anneal_end", "p_start", "p_end", "n_sparsity_updates", "sparsity_queue_length"),
        *("log_steps", "dtype", "autocast_dtype", "beta1", "beta2", "dead_feature_threshold"),
    }
)
"""Options of the training; ``norm_factor`` is multiplied into the biases before they are saved."""

HARMLESS_OF_BUFFER = frozenset(
    {
        *("ctx_len", "n_ctxs", "refresh_batch_size", "out_batch_size", "device", "remove_bos", "d_submodule"),
        *("add_special_tokens", "max_activation_norm_multiple", "dtype", "buffer_size"),
    }
)
"""Options of the texts that it was trained on."""


def read_folder(folder: Path) -> Dictionary:
    """Read a dictionary from ``ae.pt`` and ``config.json``.

    Raises:
        FeatureError: no layer, an unknown class, an option or tensor that is not understood, or missing weights.
    """
    config = Options(folder, read_config_file(folder / "config.json"))
    trainer = config.nested("trainer")
    weights = read_weights(folder / WEIGHTS)
    kind = trainer.get("dict_class")
    if not isinstance(kind, str) or kind not in TENSORS:
        raise FeatureError(f"{folder} has class {kind!r}: {suggest(str(kind), tuple(TENSORS))}")
    _refuse_unknown(config, trainer)
    refuse_other_tensors(folder, weights, TENSORS[kind], kind)
    site = agreed_site(
        folder,
        {"trainer.submodule_name": trainer.get("submodule_name")},
        {"trainer.layer": trainer.get("layer")},
    )

    def build() -> Dictionary:
        W_enc, W_dec = _matrices(folder, weights)
        scalars = _SCALARS if kind in ONE_THRESHOLD else _SCALARS - {"threshold"}
        vectors = {name: weights[name] for name in set(weights) - _WEIGHTS - scalars}
        refuse_other_shapes(folder, W_enc, {"W_dec": W_dec, **vectors})
        activation, b_enc, b_dec, centred = _activation_and_biases(folder, kind, trainer, weights)
        card = {"model": trainer.get("lm_name"), "trainer": dict(trainer.values)}
        return Dictionary(site, W_enc, b_enc, W_dec, b_dec, activation, centred, folder.resolve().name, card)

    dictionary = refuse_missing_keys(folder, build)
    trainer.refuse_other_size(activation_dim=dictionary.d_model, dict_size=dictionary.d_sae)
    return dictionary


def _refuse_unknown(config: Options, trainer: Options) -> None:
    """Raise for an option that could change what the dictionary computes, or where it reads."""
    config.refuse_other({"trainer", "buffer"})
    trainer.refuse_other(
        {"dict_class", "layer", "submodule_name", "k", "activation_dim", "dict_size", *HARMLESS}
    )
    buffer = config.nested("buffer")
    if buffer.get("io") not in (None, "out"):
        raise buffer.error("io", "and only outputs of modules are read")
    buffer.refuse_other({"io", *HARMLESS_OF_BUFFER})


def _matrices(folder: Path, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Encoder ``(d_model, d_sae)`` and decoder ``(d_sae, d_model)``; linear layers store them transposed."""
    encoder, decoder = (
        matrix(folder, weights, f"W_{name}c")
        if f"W_{name}c" in weights
        else matrix(folder, weights, f"{name}coder.weight").T
        for name in ("en", "de")
    )
    return encoder.contiguous(), decoder.contiguous()


def _activation_and_biases(
    folder: Path, kind: str, trainer: Options, weights: Mapping[str, Tensor]
) -> tuple[ActivationFunction, Tensor, Tensor, bool]:
    """Activation function, encoder bias, decoder bias, and whether the decoder bias is subtracted from the input."""
    if kind == "GatedAutoEncoder":
        gated = Gated(weights["gate_bias"], weights["r_mag"].exp(), weights["mag_bias"])
        return gated, weights["gate_bias"], weights["decoder_bias"], True
    b_enc = weights["b_enc"] if "b_enc" in weights else weights["encoder.bias"]
    if kind in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
        threshold = one_threshold(folder, weights["threshold"], b_enc)
        return JumpReLU(threshold), b_enc, weights["b_dec"], True
    if kind == "JumpReluAutoEncoder":
        return JumpReLU(weights["threshold"]), b_enc, weights["b_dec"], False
    if kind == "AutoEncoderTopK":
        return TopK(_k(trainer, weights)), b_enc, weights["b_dec"], True
    return ReLU(), b_enc, weights["bias"], True


def _k(trainer: Options, weights: Mapping[str, Tensor]) -> int:
    """The number of active latents: the one that was saved with the weights, or else that of the training."""
    if "k" not in weights:
        return trainer.count("k")
    k = weights["k"]
    if k.numel() != 1 or float(k) != int(k):
        raise FeatureError(f"{trainer.folder}: the tensor k is {k.tolist()}, expected one whole number")
    return int(k)
