"""SAELens folders, the native format: ``cfg.json`` and ``sae_weights.safetensors``.

The card of a dictionary, which holds how it was trained and how good it is, is stored in the configuration's metadata,
which SAELens keeps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from personaprobe.errors import FeatureError, suggest
from personaprobe.features.sae.activation_functions import ActivationFunction, Gated, JumpReLU, ReLU, TopK
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.formats.options import Options, refuse_other_tensors
from personaprobe.features.sae.formats.saelens_config import (
    METADATA_KEY,
    TENSORS,
    read_config,
    site_of_config,
)
from personaprobe.features.sae.formats.weight_files import (
    matrix,
    one_threshold,
    read_config_file,
    read_weights,
    refuse_missing_keys,
    refuse_other_shapes,
)
from personaprobe.features.sae.row_layout import RowLayout
from personaprobe.storage.files import write_atomically, write_text
from personaprobe.storage.paths import user_path

if TYPE_CHECKING:
    from torch import Tensor

CFG, WEIGHTS = "cfg.json", "sae_weights.safetensors"

SAE_LENS_VERSION = "6.54.12"
"""Version of SAELens whose folder format is written."""


def save_dictionary(dictionary: Dictionary, folder: str | Path, *, dtype: str = "float32") -> Path:
    """Write a SAELens folder; the configuration last, so that an interrupted write is recognised.

    Args:
        dictionary: on any device.
        folder: created if needed.
        dtype: of the stored weights, ``float32`` or ``bfloat16``. SAELens and personaprobe compute in float32 on the
            stored values.

    Returns:
        The folder.

    Raises:
        OutputError: the folder cannot be written.
    """
    import torch
    from safetensors.torch import save_file

    folder = user_path(folder, FeatureError)
    options, activation_weights = _activation_as_saelens(dictionary.activation)
    weights = {"W_enc": dictionary.W_enc, "W_dec": dictionary.W_dec, "b_dec": dictionary.b_dec}
    if not isinstance(dictionary.activation, Gated):
        weights["b_enc"] = dictionary.b_enc
    stored: dict[str, Tensor] = {
        name: tensor.detach().cpu().to(getattr(torch, dtype)).contiguous() for name, tensor in weights.items()
    }
    # thresholds and gates stay float32: rounding one would change which latents are active
    stored |= {
        name: tensor.detach().cpu().float().contiguous() for name, tensor in activation_weights.items()
    }
    write_atomically(folder / WEIGHTS, lambda path: save_file(stored, path))
    config = json.dumps(_config(dictionary, options), indent=1, sort_keys=True)
    write_text(folder / CFG, config + "\n")
    return folder


def _config(dictionary: Dictionary, options: Mapping[str, Any]) -> dict[str, Any]:
    card, site = dict(dictionary.card), dictionary.site
    metadata = {
        "sae_lens_version": SAE_LENS_VERSION,
        "sae_lens_training_version": None,
        "model_name": card.get("model", ""),
        "hook_name": site.to_transformer_lens(),
        "hf_hook_name": f"model.layers.{site.layer}" if site.stream == "resid_post" else None,
        "hook_head_index": None,
        "prepend_bos": False,
        "context_size": card.get("context"),
        METADATA_KEY: {"name": dictionary.name, "card": card},
    }
    return {
        **options,
        "d_in": dictionary.d_model,
        "d_sae": dictionary.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": dictionary.centred,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": metadata,
    }


def _activation_as_saelens(activation: ActivationFunction) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights of an activation function in SAELens' terms."""
    if isinstance(activation, JumpReLU):
        return {"architecture": "jumprelu"}, {"threshold": activation.threshold}
    if isinstance(activation, TopK):
        return {"architecture": "topk", "k": activation.k, "rescale_acts_by_decoder_norm": False}, {}
    if isinstance(activation, Gated):
        weights = {"b_gate": activation.b_gate, "r_mag": activation.gain.log(), "b_mag": activation.b_mag}
        return {"architecture": "gated"}, weights
    return {"architecture": "standard"}, {}


def read_folder(folder: Path) -> Dictionary:
    """Read a dictionary.

    Raises:
        FeatureError: an option or tensor that is not understood, an unknown architecture, missing weights, or a hook point
            that is no site.
    """
    options = read_config(folder, read_config_file(folder / CFG))
    weights = _without_scaling_factor(options, read_weights(folder / WEIGHTS))
    return refuse_missing_keys(folder, lambda: _dictionary(folder, options, weights))


def _dictionary(folder: Path, options: Options, weights: dict[str, Tensor]) -> Dictionary:
    """The dictionary; KeyError where a weight or an option is missing."""
    activation, b_enc, W_enc, W_dec = _activation_and_matrices(folder, options, weights)
    dictionary = Dictionary(
        site_of_config(options),
        W_enc,
        b_enc,
        W_dec,
        weights["b_dec"],
        activation,
        options.flag("apply_b_dec_to_input", default=True),
        **_name_and_card(folder, options),
    )
    options.refuse_other_size(d_in=dictionary.d_model, d_sae=dictionary.d_sae)
    return dictionary


def _name_and_card(folder: Path, options: Options) -> dict[str, Any]:
    """Name and card: those that were saved with a dictionary of ours, or what SAELens says about its own."""
    nested = options.nested("metadata")
    ours = nested.nested(METADATA_KEY)
    metadata = nested.values or options.values
    name, card = ours.get("name") or folder.name, ours.nested("card").values
    if not isinstance(name, str) or card.get("layout", "mixed") not in get_args(RowLayout):
        raise FeatureError(
            f"{folder}: the name {name!r} or the card of the dictionary is damaged; save it again"
        )
    theirs = {key: value for key, value in metadata.items() if key != METADATA_KEY}
    described = {
        "model": metadata.get("model_name"),
        "context": metadata.get("context_size"),
        "saelens": theirs,
    }
    return {"name": name, "card": dict(card) or described}


def _without_scaling_factor(options: Options, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights without the factors of a finetuning of latents, which must all be 1: SAELens 6 has none."""
    factors = weights.get("scaling_factor")
    if factors is not None and not bool((factors == 1).all()):
        raise FeatureError(
            f"{options.folder} holds a scaling_factor that is not 1 everywhere; "
            "multiply the decoder rows by it and save again"
        )
    if options.flag("finetuning_scaling_factor", default=False) and factors is None:
        raise options.error("finetuning_scaling_factor", "but the weights hold no scaling_factor")
    return {name: tensor for name, tensor in weights.items() if name != "scaling_factor"}


def _activation_and_matrices(
    folder: Path, options: Options, weights: Mapping[str, Tensor]
) -> tuple[ActivationFunction, Tensor, Tensor, Tensor]:
    """The activation function, the encoder bias that it expects in the pre-activations, encoder and decoder."""
    name = str(options.get("architecture"))
    if name not in TENSORS:
        raise FeatureError(
            f"{folder} has architecture {name!r}, which is not known: {suggest(name, tuple(TENSORS))}"
        )
    refuse_other_tensors(folder, weights, TENSORS[name], name)
    W_enc, W_dec = matrix(folder, weights, "W_enc"), matrix(folder, weights, "W_dec")
    of_latents = {key: weights[key] for key in TENSORS[name] - {"W_enc", "W_dec", "topk_threshold"}}
    refuse_other_shapes(folder, W_enc, {"W_dec": W_dec, **of_latents})
    if name == "gated":
        gated = Gated(weights["b_gate"], weights["r_mag"].exp(), weights["b_mag"])
        return gated, weights["b_gate"], W_enc, W_dec
    b_enc = weights["b_enc"]
    if options.flag("rescale_acts_by_decoder_norm", default=False):
        # SAELens ranks latents by activation times decoder norm: the same as with unit decoder rows
        norm = W_dec.norm(dim=-1).clamp_min(1e-8)
        W_enc, b_enc, W_dec = W_enc * norm, b_enc * norm, W_dec / norm[:, None]
    if name == "topk":
        return TopK(options.count("k")), b_enc, W_enc, W_dec
    if name == "jumprelu":
        return JumpReLU(weights["threshold"]), b_enc, W_enc, W_dec
    if name == "standard":
        return ReLU(), b_enc, W_enc, W_dec
    return JumpReLU(one_threshold(folder, weights["topk_threshold"], b_enc)), b_enc, W_enc, W_dec
