"""Dictionaries on disk: the SAELens folder, read and written, and the folders of two other trainers, read.

The SAELens folder is the native one: ``cfg.json`` and ``sae_weights.safetensors``. What personaprobe adds (how
the dictionary was trained and how good it is) lies in the configuration's metadata, which SAELens keeps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from personaprobe.errors import FeatureError, SiteError, suggest
from personaprobe.features.sae.activation_functions import ActivationFunction, Gated, JumpReLU, ReLU, TopK
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.site import Site
from personaprobe.storage.files import write_atomically, write_text

if TYPE_CHECKING:
    from torch import Tensor

Weights = Mapping[str, "Tensor"]
T = TypeVar("T")

CFG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
SAE_LENS_VERSION = "6.54.12"
"""Of the folder format that is written."""

OWN = "personaprobe"
"""The key of our part of the metadata."""


def load(folder: str | Path) -> Dictionary:
    """Read a dictionary from a folder of SAELens, dictionary_learning or sparsify, told apart by their files.

    Weights are float32 in memory, whatever they were stored in. Pickles are read as tensors only.

    Raises:
        FeatureError: no such folder, an unknown architecture, missing or truncated weights, shapes that do not
            fit, NaN weights, a pickle that holds more than tensors, or a hook point that is no site.
    """
    folder = Path(folder).expanduser()
    for sign, read in _READERS.items():
        if (folder / sign).is_file():
            return read(folder)
    raise FeatureError(
        f"{folder} holds no dictionary: expected {WEIGHTS} (SAELens), ae.pt (dictionary_learning) or "
        "sae.safetensors (sparsify) in it"
    )


def save(dictionary: Dictionary, folder: str | Path, *, dtype: str = "float32") -> Path:
    """Write a SAELens folder; the configuration last.

    Args:
        dictionary: on any device.
        folder: made where it is not there.
        dtype: of the stored weights, ``float32`` or ``bfloat16``; SAELens and :func:`load` compute in float32
            either way, on the stored values.

    Raises:
        OutputError: the folder cannot be written.
    """
    import torch
    from safetensors.torch import save_file

    folder = Path(folder).expanduser()
    told, extra = _spell(dictionary.activation)
    tensors = {"W_enc": dictionary.W_enc, "W_dec": dictionary.W_dec, "b_dec": dictionary.b_dec}
    if not isinstance(dictionary.activation, Gated):
        tensors["b_enc"] = dictionary.b_enc
    stored: dict[str, Tensor] = {
        name: tensor.detach().cpu().to(getattr(torch, dtype)).contiguous() for name, tensor in tensors.items()
    }
    stored |= {name: tensor.detach().cpu().float().contiguous() for name, tensor in extra.items()}
    write_atomically(folder / WEIGHTS, lambda path: save_file(stored, path))
    write_text(folder / CFG, json.dumps(_config(dictionary, told), indent=1, sort_keys=True) + "\n")
    return folder


def _config(dictionary: Dictionary, told: Mapping[str, Any]) -> dict[str, Any]:
    card = dict(dictionary.card)
    metadata = {
        "sae_lens_version": SAE_LENS_VERSION,
        "sae_lens_training_version": None,
        "model_name": card.get("model", ""),
        "hook_name": dictionary.site.to_transformer_lens(),
        "hf_hook_name": f"model.layers.{dictionary.site.layer}"
        if dictionary.site.stream == "resid_post"
        else None,
        "hook_head_index": None,
        "prepend_bos": False,
        "context_size": card.get("context"),
        OWN: {"name": dictionary.name, "card": card},
    }
    return {
        **told,
        "d_in": dictionary.d_model,
        "d_sae": dictionary.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": dictionary.centred,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": metadata,
    }


def _spell(activation: ActivationFunction) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """SAELens' name of an activation function, its options, and the tensors that go with it."""
    if isinstance(activation, JumpReLU):
        return {"architecture": "jumprelu"}, {"threshold": activation.threshold}
    if isinstance(activation, TopK):
        return {"architecture": "topk", "k": activation.k, "rescale_acts_by_decoder_norm": False}, {}
    if isinstance(activation, Gated):
        r_mag = activation.gain.log()
        return {"architecture": "gated"}, {
            "b_gate": activation.b_gate,
            "r_mag": r_mag,
            "b_mag": activation.b_mag,
        }
    return {"architecture": "standard"}, {}


def _read_saelens(folder: Path) -> Dictionary:
    config = _json(folder / CFG)
    metadata = config.get("metadata") or config
    if config.get("normalize_activations", "none") not in ("none", None):
        raise FeatureError(
            f"{folder} normalises its input by {config['normalize_activations']}; fold that into the weights "
            "with SAELens before saving"
        )
    weights = _folded(_safetensors(folder / WEIGHTS), config)
    activation, b_enc = _saelens_activation(folder, config, weights)
    own = metadata.get(OWN) or {}
    card = own.get("card") or {
        "model": metadata.get("model_name"),
        "context": metadata.get("context_size"),
        "saelens": {k: v for k, v in metadata.items() if k != OWN},
    }
    return _checked(
        folder,
        lambda: Dictionary(
            _site(folder, str(metadata.get("hook_name"))),
            weights["W_enc"],
            b_enc,
            weights["W_dec"],
            weights["b_dec"],
            activation,
            bool(config.get("apply_b_dec_to_input", True)),
            str(own.get("name") or folder.name),
            card,
        ),
    )


def _folded(weights: dict[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights with unit meaning: SAELens may rank latents by activation times decoder norm."""
    if not config.get("rescale_acts_by_decoder_norm"):
        return weights
    norm = weights["W_dec"].norm(dim=-1)
    scaled = {"W_enc": weights["W_enc"] * norm, "b_enc": weights["b_enc"] * norm}
    return {**weights, **scaled, "W_dec": weights["W_dec"] / norm[:, None]}


def _saelens_activation(
    folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> tuple[ActivationFunction, Tensor]:
    """The activation function, and the bias it expects in the pre-activations."""
    name = str(config.get("architecture"))
    if name in ("batchtopk", "matryoshka_batchtopk") and "topk_threshold" in weights:
        return JumpReLU(weights["topk_threshold"].float().expand(weights["b_enc"].shape)), weights["b_enc"]
    kinds: dict[str, Callable[[], tuple[ActivationFunction, Tensor]]] = {
        "standard": lambda: (ReLU(), weights["b_enc"]),
        "topk": lambda: (TopK(int(config["k"])), weights["b_enc"]),
        "jumprelu": lambda: (JumpReLU(weights["threshold"]), weights["b_enc"]),
        "gated": lambda: (
            Gated(weights["b_gate"], weights["r_mag"].exp(), weights["b_mag"]),
            weights["b_gate"],
        ),
    }
    if name not in kinds:
        raise FeatureError(
            f"{folder} has architecture {name!r}, which is not known: {suggest(name, tuple(kinds))}"
        )
    return _checked(folder, kinds[name])


def _read_dictionary_learning(folder: Path) -> Dictionary:
    trainer = dict(_json(folder / "config.json").get("trainer") or {})
    weights = _pickled_tensors(folder / "ae.pt")
    kind = str(trainer.get("dict_class"))
    layer = trainer.get("layer")
    if not isinstance(layer, int):
        raise FeatureError(f"{folder}/config.json does not say at which layer it was trained (trainer.layer)")

    def made() -> Dictionary:
        W_enc, W_dec = _laid_out(weights)
        activation, b_enc, b_dec, centred = _dictionary_learning_parts(folder, kind, trainer, weights)
        card = {"model": trainer.get("lm_name"), "trainer": trainer}
        return Dictionary(
            Site(layer), W_enc, b_enc, W_dec, b_dec, activation, centred, folder.resolve().name, card
        )

    return _checked(folder, made)


def _laid_out(weights: Weights) -> tuple[Tensor, Tensor]:
    """Encoder ``(d_model, d_sae)`` and decoder ``(d_sae, d_model)``; linear layers store them transposed."""
    W_enc = weights["W_enc"] if "W_enc" in weights else weights["encoder.weight"].T
    W_dec = weights["W_dec"] if "W_dec" in weights else weights["decoder.weight"].T
    return W_enc.contiguous(), W_dec.contiguous()


def _dictionary_learning_parts(
    folder: Path, kind: str, trainer: Mapping[str, Any], weights: Weights
) -> tuple[ActivationFunction, Tensor, Tensor, bool]:
    """Activation function, encoder bias, decoder bias, and whether the input is centred."""
    bias = weights.get("b_enc") if "b_enc" in weights else weights.get("encoder.bias")
    if kind == "GatedAutoEncoder":
        gated = Gated(weights["gate_bias"], weights["r_mag"].exp(), weights["mag_bias"])
        return gated, weights["gate_bias"], weights["decoder_bias"], True
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
    known = (
        "AutoEncoder",
        "AutoEncoderTopK",
        "BatchTopKSAE",
        "MatryoshkaBatchTopKSAE",
        "JumpReluAutoEncoder",
    )
    raise FeatureError(f"{folder} has class {kind!r}: {suggest(kind, (*known, 'GatedAutoEncoder'))}")


def _read_sparsify(folder: Path) -> Dictionary:
    config, weights = _json(folder / CFG), _safetensors(folder / "sae.safetensors")
    hook, _, inner = folder.resolve().name.removeprefix("layers.").partition(".")
    streams = {"": "resid_post", "mlp": "mlp_out", "self_attn": "attn_out", "attention": "attn_out"}
    if not hook.isdecimal() or inner not in streams:
        raise FeatureError(
            f"{folder} is not named after its hook point: call it layers.LAYER or layers.LAYER.mlp"
        )
    if config.get("transcode"):
        raise FeatureError(
            f"{folder} is a transcoder, which predicts one site from another; give an autoencoder"
        )
    return _checked(
        folder,
        lambda: Dictionary(
            Site.parse(f"{hook}.{streams[inner]}"),
            weights["encoder.weight"].T.contiguous(),
            weights["encoder.bias"],
            weights["W_dec"],
            weights["b_dec"],
            TopK(int(config["k"])),
            name=folder.resolve().name,
            card={"config": config},
        ),
    )


_READERS: dict[str, Callable[[Path], Dictionary]] = {
    WEIGHTS: _read_saelens,
    "ae.pt": _read_dictionary_learning,
    "sae.safetensors": _read_sparsify,
}


def _checked(folder: Path, made: Callable[[], T]) -> T:
    """Say what a folder lacks in its own terms."""
    try:
        return made()
    except KeyError as error:
        raise FeatureError(f"{folder} lacks {error.args[0]!r}; it was not saved whole") from error


def _site(folder: Path, hook: str) -> Site:
    try:
        return Site.from_transformer_lens(hook)
    except SiteError as error:
        raise FeatureError(
            f"{folder} was trained at hook {hook!r}, which is no site we know: {error}"
        ) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise FeatureError(f"{path} is missing; the folder was not saved whole") from error
    except (ValueError, TypeError) as error:
        raise FeatureError(f"{path} is not a JSON object ({error})") from error


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise FeatureError(
            f"{path} cannot be read: {error}; it is truncated or no safetensors file"
        ) from error


def _pickled_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a PyTorch pickle; a pickle that would run code is refused unread."""
    import pickle

    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FeatureError(
            f"{path} holds more than tensors, and loading it could run code: refused"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise FeatureError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(found, dict):
        raise FeatureError(f"{path} holds a {type(found).__name__}, expected tensors by name")
    return {name: tensor.float() for name, tensor in found.items() if isinstance(tensor, torch.Tensor)}
