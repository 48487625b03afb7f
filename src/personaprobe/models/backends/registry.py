"""The same checkpoint on another engine, so that a result can be shown not to hang on ours.

Plain hooks are the reference and the fastest. nnsight and TransformerLens run the very same weights and are
held to the same laws; what a user of either already has in hand (envoys, hook points) comes with them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from personaprobe.errors import PersonaProbeError, suggest
from personaprobe.models.backends.hosted import Hosted
from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.network import Network

if TYPE_CHECKING:
    from personaprobe.models.language_model import LanguageModel

BACKENDS = ("hooks", "nnsight", "transformer_lens")
"""Names of the engines; ``hooks`` is the reference."""


def rehost(model: LanguageModel, backend: str) -> LanguageModel:
    """Return the same checkpoint, adapter and edits on another engine, proven by the self-check.

    Args:
        model: on any backend.
        backend: one of :data:`BACKENDS`.

    Raises:
        PersonaProbeError: there is no such backend; names the nearest.
        CheckpointError: the library does not know the architecture, or computes something else.
    """
    if backend not in BACKENDS:
        raise PersonaProbeError(f"unknown backend {backend!r}: {suggest(backend, BACKENDS)}")
    network = model.network.source if isinstance(model.network, Hosted) else model.network
    assert isinstance(network, HuggingFaceNetwork), "every backend is built on the reference"
    return replace(model, network=_host(network, backend))


def _host(network: HuggingFaceNetwork, backend: str) -> Network:
    """Build one of :data:`BACKENDS`; its library is imported only now."""
    if backend == "nnsight":
        from personaprobe.models.backends.nnsight import NNsightNetwork

        return NNsightNetwork.of(network)
    if backend == "transformer_lens":
        from personaprobe.models.backends.transformer_lens import TransformerLensNetwork

        return TransformerLensNetwork.of(network)
    return network
