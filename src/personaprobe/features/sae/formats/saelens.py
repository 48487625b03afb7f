"""SAELens folders, the native format: ``cfg.json`` and ``sae_weights.safetensors``.

The card of a dictionary, which holds how it was trained and how good it is, is stored in the configuration's metadata,
which SAELens keeps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.errors import FeatureError, SiteError, suggest
from personaprobe.features.sae.activation_functions import ActivationFunction, Gated, JumpReLU, ReLU, TopK
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.formats.weight_files import (
    read_json,
    read_safetensors,
    refuse_missing_keys,
)
from personaprobe.site import Site
from personaprobe.storage.files import write_atomically, write_text

if TYPE_CHECKING:
    from torch import Tensor

CFG, WEIGHTS = "cfg.json", "sae_weights.safetensors"

SAE_LENS_VERSION = "6.54.12"
"""Version of SAELens whose folder format is written."""

METADATA_KEY = "personaprobe"
"""Key of the name and the card within the metadata."""


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

    folder = Path(folder).expanduser()
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
        FeatureError: normalised inputs, an unknown architecture, missing weights, or a hook point that is no site.
    """
    config = read_json(folder / CFG)
    metadata = config.get("metadata") or config
    if config.get("normalize_activations", "none") not in ("none", None):
        raise FeatureError(
            f"{folder} normalises its input by {config['normalize_activations']}; fold that into the weights "
            "with SAELens before saving"
        )
    weights = _fold_decoder_norms(read_safetensors(folder / WEIGHTS), config)
    activation, b_enc = _activation_and_bias(folder, config, weights)
    ours = metadata.get(METADATA_KEY) or {}
    card = ours.get("card") or {
        "model": metadata.get("model_name"),
        "context": metadata.get("context_size"),
        "saelens": {key: value for key, value in metadata.items() if key != METADATA_KEY},
    }
    return refuse_missing_keys(
        folder,
        lambda: Dictionary(
            _site(folder, str(metadata.get("hook_name"))),
            weights["W_enc"],
            b_enc,
            weights["W_dec"],
            weights["b_dec"],
            activation,
            bool(config.get("apply_b_dec_to_input", True)),
            str(ours.get("name") or folder.name),
            card,
        ),
    )


def _fold_decoder_norms(weights: dict[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights with unit decoder rows, if SAELens ranks latents by activation times decoder norm."""
    if not config.get("rescale_acts_by_decoder_norm"):
        return weights
    norm = weights["W_dec"].norm(dim=-1)
    encoder = {"W_enc": weights["W_enc"] * norm, "b_enc": weights["b_enc"] * norm}
    return {**weights, **encoder, "W_dec": weights["W_dec"] / norm[:, None]}


def _activation_and_bias(
    folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> tuple[ActivationFunction, Tensor]:
    """The activation function, and the encoder bias that it expects in the pre-activations."""
    name = str(config.get("architecture"))
    if name in ("batchtopk", "matryoshka_batchtopk") and "topk_threshold" in weights:
        return JumpReLU(weights["topk_threshold"].float().expand(weights["b_enc"].shape)), weights["b_enc"]
    builders: dict[str, Callable[[], tuple[ActivationFunction, Tensor]]] = {
        "standard": lambda: (ReLU(), weights["b_enc"]),
        "topk": lambda: (TopK(int(config["k"])), weights["b_enc"]),
        "jumprelu": lambda: (JumpReLU(weights["threshold"]), weights["b_enc"]),
        "gated": lambda: (
            Gated(weights["b_gate"], weights["r_mag"].exp(), weights["b_mag"]),
            weights["b_gate"],
        ),
    }
    if name not in builders:
        raise FeatureError(
            f"{folder} has architecture {name!r}, which is not known: {suggest(name, tuple(builders))}"
        )
    return refuse_missing_keys(folder, builders[name])


def _site(folder: Path, hook: str) -> Site:
    try:
        return Site.from_transformer_lens(hook)
    except SiteError as error:
        raise FeatureError(
            f"{folder} was trained at hook {hook!r}, which is no site we know: {error}"
        ) from error
