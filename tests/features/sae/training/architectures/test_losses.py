"""Losses and gradients of the architectures equal those of SAELens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from personaprobe.features.sae.training.architectures.architecture import Architecture
from personaprobe.features.sae.training.architectures.batchtopk import BatchTopKArchitecture
from personaprobe.features.sae.training.architectures.crosscoder import CrosscoderArchitecture
from personaprobe.features.sae.training.architectures.jumprelu import JumpReLUArchitecture
from personaprobe.features.sae.training.architectures.matryoshka import MatryoshkaArchitecture
from personaprobe.features.sae.training.architectures.relu import ReLUArchitecture
from personaprobe.features.sae.training.architectures.topk import TopKArchitecture
from personaprobe.features.sae.training.autoencoder import Autoencoder
from random_dictionaries import D, M, N, autoencoder, numbers

NONE_DEAD = torch.zeros(M, dtype=torch.bool)


SOME_DEAD = torch.arange(M) >= 33


def saelens(name: str, ours: Autoencoder, **options: Any) -> Any:
    from sae_lens.registry import get_sae_training_class

    kind, config = get_sae_training_class(name)
    theirs = kind(config(d_in=D, d_sae=M, decoder_init_norm=None, **options))
    with torch.no_grad():
        theirs.W_enc.copy_(ours.encoder.T)
        theirs.b_enc.copy_(ours.b_enc)
        theirs.W_dec.copy_(ours.decoder)
        theirs.b_dec.copy_(ours.b_dec)
        if name == "jumprelu":
            theirs.threshold.fill_(0.3)
    return theirs


ORACLES: dict[str, tuple[Architecture, str, dict[str, Any]]] = {
    "topk": (
        TopKArchitecture(4, aux=0.5),
        "topk",
        {"k": 4, "aux_loss_coefficient": 0.5, "rescale_acts_by_decoder_norm": False},
    ),
    "batchtopk": (
        BatchTopKArchitecture(4, aux=0.5),
        "batchtopk",
        {"k": 4, "aux_loss_coefficient": 0.5, "rescale_acts_by_decoder_norm": False},
    ),
    "matryoshka": (
        MatryoshkaArchitecture(4, aux=0.5, widths=(8, 20)),
        "matryoshka_batchtopk",
        {
            "k": 4,
            "aux_loss_coefficient": 0.5,
            "rescale_acts_by_decoder_norm": False,
            "matryoshka_widths": [8, 20, M],
        },
    ),
    "relu": (ReLUArchitecture(l1=0.3), "standard", {"l1_coefficient": 0.3}),
    "jumprelu": (
        JumpReLUArchitecture(l0=0.3, bandwidth=0.4, start=0.3),
        "jumprelu",
        {"l0_coefficient": 0.3, "jumprelu_bandwidth": 0.4, "jumprelu_sparsity_loss_mode": "step"},
    ),
}


@pytest.mark.parametrize("dead", [NONE_DEAD, SOME_DEAD], ids=["none dead", "some dead"])
@pytest.mark.parametrize("name", ORACLES)
def test_losses_and_gradients_equal_those_of_saelens(name: str, dead: Tensor) -> None:
    from sae_lens.saes.sae import TrainStepInput

    architecture, theirs_name, options = ORACLES[name]
    ours = autoencoder()
    theirs = saelens(theirs_name, ours, **options)
    x = numbers(N, D, seed=7)
    coefficients = {
        key: c if isinstance(c, float) else c.value for key, c in theirs.get_coefficients().items()
    }
    given = TrainStepInput(x, coefficients, dead, 10_000, False)
    expected = theirs.training_forward_pass(given)
    losses = architecture.losses(ours, x, dead)
    assert torch.allclose(losses.total, expected.loss, rtol=1e-4)
    losses.total.backward()
    expected.loss.backward()
    for mine, other in ((ours.encoder, theirs.W_enc.grad.T), (ours.b_enc, theirs.b_enc.grad)):
        assert torch.allclose(mine.grad, other, rtol=1e-3, atol=1e-4)
    assert torch.allclose(ours.decoder.grad, theirs.W_dec.grad, rtol=1e-3, atol=1e-4)
    assert torch.allclose(ours.b_dec.grad, theirs.b_dec.grad, rtol=1e-3, atol=1e-4)


def test_the_error_of_a_crosscoder_includes_differences_between_checkpoints() -> None:
    architecture = CrosscoderArchitecture(4, n_models=3, delta=2.0)
    written, x = numbers(N, D, seed=3), numbers(N, D, seed=4)
    residual = written - x
    base, insecure, secure = residual.reshape(N, 3, 4).unbind(1)
    differences = (insecure - base).pow(2).sum(-1) + (secure - base).pow(2).sum(-1)
    expected = residual.pow(2).sum(-1) + 2.0 * differences
    assert torch.allclose(architecture.reconstruction_error(written, x), expected.mean(), rtol=1e-5)
