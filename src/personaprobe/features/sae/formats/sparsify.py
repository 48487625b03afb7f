"""Folders of EleutherAI's sparsify, read."""

from __future__ import annotations

from pathlib import Path

from personaprobe.errors import FeatureError
from personaprobe.features.sae.activation_functions import TopK
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.formats.hook_points import site_of
from personaprobe.features.sae.formats.options import Options, refuse_other_tensors
from personaprobe.features.sae.formats.weight_files import (
    matrix,
    read_config_file,
    read_weights,
    refuse_missing_keys,
    refuse_other_shapes,
)

WEIGHTS = "sae.safetensors"

TENSORS = frozenset({"encoder.weight", "encoder.bias", "W_dec", "b_dec"})

HARMLESS = frozenset({"expansion_factor", "normalize_decoder", "multi_topk", "dtype"})
"""Options of the training; ``normalize_decoder`` and ``multi_topk`` act on the losses and on the stored decoder."""


def read_folder(folder: Path) -> Dictionary:
    """Read a dictionary. sparsify names the folder after the hook point, and stores it nowhere else.

    Raises:
        FeatureError: a folder that is not named after its hook point, a transcoder, an option or tensor that is not
            understood, or missing weights.
    """
    options, weights = Options(folder, read_config_file(folder / "cfg.json")), read_weights(folder / WEIGHTS)
    name = folder.resolve().name
    site = site_of(name)
    if site is None:
        raise FeatureError(
            f"{folder} is not named after its hook point: call it layers.LAYER or layers.LAYER.mlp"
        )
    options.refuse_other({"activation", "k", "d_in", "num_latents", *HARMLESS})
    if options.get("activation") not in (None, "topk"):
        raise options.error("activation", "and only topk is read")
    refuse_other_tensors(folder, weights, TENSORS, "sparsify")

    def build() -> Dictionary:
        W_enc = matrix(folder, weights, "encoder.weight").T.contiguous()
        b_enc, W_dec, b_dec = weights["encoder.bias"], matrix(folder, weights, "W_dec"), weights["b_dec"]
        refuse_other_shapes(folder, W_enc, {"W_dec": W_dec, "b_dec": b_dec, "encoder.bias": b_enc})
        card = {"config": dict(options.values)}
        activation = TopK(options.count("k"))
        return Dictionary(site, W_enc, b_enc, W_dec, b_dec, activation, name=name, card=card)

    dictionary = refuse_missing_keys(folder, build)
    _refuse_other_size(options, dictionary)
    return dictionary


def _refuse_other_size(options: Options, dictionary: Dictionary) -> None:
    """Raise where the configuration has other sizes; without ``num_latents``, ``expansion_factor`` gives their number."""
    options.refuse_other_size(d_in=dictionary.d_model)
    if options.get("num_latents") not in (None, 0) or isinstance(options.get("num_latents"), bool):
        options.refuse_other_size(num_latents=dictionary.d_sae)
        return
    factor = None if options.get("expansion_factor") is None else options.count("expansion_factor")
    if factor is not None and factor * dictionary.d_model != dictionary.d_sae:
        raise options.error("expansion_factor", f"but the tensors have {dictionary.d_sae} latents")
