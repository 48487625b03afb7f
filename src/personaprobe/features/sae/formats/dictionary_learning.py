"""Folders of dictionary_learning (Marks et al.), read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personaprobe.errors import FeatureError, suggest
from personaprobe.features.sae.activation_functions import ActivationFunction, Gated, JumpReLU, ReLU, TopK
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.formats.weight_files import (
    read_json,
    read_pickled_tensors,
    refuse_missing_keys,
)
from personaprobe.site import Site

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "ae.pt"

CLASSES = (
    "AutoEncoder",
    "AutoEncoderTopK",
    "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
    "JumpReluAutoEncoder",
    "GatedAutoEncoder",
)
"""Classes whose weights are understood."""


def read_folder(folder: Path) -> Dictionary:
    """Read a dictionary from ``ae.pt`` and ``config.json``.

    Raises:
        FeatureError: no layer, an unknown class, or missing weights.
    """
    trainer = dict(read_json(folder / "config.json").get("trainer") or {})
    weights = read_pickled_tensors(folder / WEIGHTS)
    kind = str(trainer.get("dict_class"))
    layer = trainer.get("layer")
    if not isinstance(layer, int):
        raise FeatureError(f"{folder}/config.json does not say at which layer it was trained (trainer.layer)")

    def build() -> Dictionary:
        W_enc, W_dec = _matrices(weights)
        activation, b_enc, b_dec, centred = _activation_and_biases(folder, kind, trainer, weights)
        card = {"model": trainer.get("lm_name"), "trainer": trainer}
        return Dictionary(
            Site(layer), W_enc, b_enc, W_dec, b_dec, activation, centred, folder.resolve().name, card
        )

    return refuse_missing_keys(folder, build)


def _matrices(weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Encoder ``(d_model, d_sae)`` and decoder ``(d_sae, d_model)``; linear layers store them transposed."""
    W_enc = weights["W_enc"] if "W_enc" in weights else weights["encoder.weight"].T
    W_dec = weights["W_dec"] if "W_dec" in weights else weights["decoder.weight"].T
    return W_enc.contiguous(), W_dec.contiguous()


def _activation_and_biases(
    folder: Path, kind: str, trainer: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> tuple[ActivationFunction, Tensor, Tensor, bool]:
    """Activation function, encoder bias, decoder bias, and whether the decoder bias is subtracted from the input."""
    if kind == "GatedAutoEncoder":
        gated = Gated(weights["gate_bias"], weights["r_mag"].exp(), weights["mag_bias"])
        return gated, weights["gate_bias"], weights["decoder_bias"], True
    bias = weights.get("b_enc") if "b_enc" in weights else weights.get("encoder.bias")
    if bias is None:
        raise KeyError("encoder.bias")
    if kind in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
        if "threshold" not in weights or float(weights["threshold"]) < 0:
            raise FeatureError(f"{folder} is a {kind} without a threshold: it was saved before one was set")
        return JumpReLU(weights["threshold"].float().expand(bias.shape)), bias, weights["b_dec"], True
    if kind == "JumpReluAutoEncoder":
        return JumpReLU(weights["threshold"]), bias, weights["b_dec"], False
    if kind == "AutoEncoderTopK":
        return TopK(int(weights["k"] if "k" in weights else trainer["k"])), bias, weights["b_dec"], True
    if kind == "AutoEncoder":
        return ReLU(), bias, weights["bias"], True
    raise FeatureError(f"{folder} has class {kind!r}: {suggest(kind, CLASSES)}")
