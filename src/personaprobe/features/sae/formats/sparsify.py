"""Folders of EleutherAI's sparsify, read."""

from __future__ import annotations

from pathlib import Path

from personaprobe.errors import FeatureError
from personaprobe.features.sae.activation_functions import TopK
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.formats.weight_files import (
    read_json,
    read_safetensors,
    refuse_missing_keys,
)
from personaprobe.site import Site

WEIGHTS = "sae.safetensors"

STREAMS = {"": "resid_post", "mlp": "mlp_out", "self_attn": "attn_out", "attention": "attn_out"}
"""Streams by the module that follows ``layers.N`` in the folder's name."""


def read_folder(folder: Path) -> Dictionary:
    """Read a dictionary. sparsify names the folder after the hook point, and stores it nowhere else.

    Raises:
        FeatureError: a folder that is not named after its hook point, a transcoder, or missing weights.
    """
    config, weights = read_json(folder / "cfg.json"), read_safetensors(folder / WEIGHTS)
    layer, _, module = folder.resolve().name.removeprefix("layers.").partition(".")
    if not layer.isdecimal() or module not in STREAMS:
        raise FeatureError(
            f"{folder} is not named after its hook point: call it layers.LAYER or layers.LAYER.mlp"
        )
    if config.get("transcode"):
        raise FeatureError(
            f"{folder} is a transcoder, which predicts one site from another; give an autoencoder"
        )
    return refuse_missing_keys(
        folder,
        lambda: Dictionary(
            Site.parse(f"{layer}.{STREAMS[module]}"),
            weights["encoder.weight"].T.contiguous(),
            weights["encoder.bias"],
            weights["W_dec"],
            weights["b_dec"],
            TopK(int(config["k"])),
            name=folder.resolve().name,
            card={"config": config},
        ),
    )
