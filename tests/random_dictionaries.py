"""Small random dictionaries and autoencoders, the same numbers every time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from personaprobe.features.sae.activation_functions import ActivationFunction, Gated, JumpReLU, ReLU, TopK
from personaprobe.features.sae.dictionary import Dictionary
from personaprobe.features.sae.training.autoencoder import Autoencoder
from personaprobe.site import Site

D_MODEL, D_SAE = 16, 48

N, D, M = 24, 12, 40
"""Rows, width and latents of :func:`autoencoder`."""


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


ROWS = numbers(40, D_MODEL, seed=9)

ACTIVATIONS: dict[str, ActivationFunction] = {
    "relu": ReLU(),
    "topk": TopK(6),
    "jumprelu": JumpReLU(numbers(D_SAE, seed=5).abs()),
    "gated": Gated(numbers(D_SAE, seed=6), numbers(D_SAE, seed=7).exp(), numbers(D_SAE, seed=8)),
}


def random_dictionary(kind: str) -> Dictionary:
    """A dictionary with one of :data:`ACTIVATIONS`."""
    activation = ACTIVATIONS[kind]
    b_enc = activation.b_gate if isinstance(activation, Gated) else numbers(D_SAE, seed=2)
    return Dictionary(
        Site(3),
        numbers(D_MODEL, D_SAE, seed=1),
        b_enc,
        numbers(D_SAE, D_MODEL, seed=3),
        numbers(D_MODEL, seed=4),
        activation,
        name="planted",
        card={"model": "demo", "context": 256, "quality": {"base": {"l0": 6.0}}},
    )


def jumping(**changed: Any) -> Dictionary:
    """A JumpReLU dictionary without a card, with some of its fields changed."""
    sae = Dictionary(
        Site(3),
        numbers(D_MODEL, D_SAE, seed=1),
        numbers(D_SAE, seed=2),
        numbers(D_SAE, D_MODEL, seed=3),
        numbers(D_MODEL, seed=4),
        ACTIVATIONS["jumprelu"],
    )
    return replace(sae, **changed)


def autoencoder(seed: int = 0) -> Autoencoder:
    """An autoencoder of ``M`` latents whose parameters are all random."""
    module = Autoencoder(M, numbers(64, D, seed=seed), seed)
    with torch.no_grad():
        for offset, parameter in enumerate((module.encoder, module.b_enc, module.b_dec)):
            parameter.copy_(numbers(*parameter.shape, seed=seed + offset + 1))
        module.scale.fill_(1.0)
    return module
