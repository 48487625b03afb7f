"""The same checkpoint on another engine, so that a result can be shown not to hang on ours.

Plain hooks are the reference and the fastest. nnsight and TransformerLens run the very same weights and are
held to the same laws; what a user of either already has in hand (envoys, hook points) comes with them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Self

from personaprobe.errors import PersonaProbeError, suggest
from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.network import Network
from personaprobe.models.self_check import prove

if TYPE_CHECKING:
    from torch import Tensor

    from personaprobe.models.language_model import LanguageModel
    from personaprobe.models.tokens import Batch
    from personaprobe.models.weights.adapter import LoraAdapter

BACKENDS = ("hooks", "nnsight", "transformer_lens")
"""Names of the engines; ``hooks`` is the reference."""


class Hosted(Network):
    """A network that another library runs, on the weights of a loaded Hugging Face model.

    Attributes:
        source: the reference network whose weights these are.
    """

    def __init__(self, source: HuggingFaceNetwork) -> None:
        self.source = source
        self.streams = source.streams
        self.n_layers = source.n_layers
        self.d_model = source.d_model
        self.vocab_size = source.vocab_size
        self.device = source.device
        self.dtype = source.dtype
        self.pad_id = source.pad_id
        self.massive_tokens = source.massive_tokens

    @classmethod
    def of(cls, network: HuggingFaceNetwork) -> Self:
        """Run a loaded network's weights on this engine, and prove that it reads, writes and computes right.

        Raises:
            CheckpointError: the library does not know the architecture, or computes something else.
        """
        network.wear(None)
        hosted = cls(network)
        prove(hosted)
        return hosted

    def wear(self, adapter: LoraAdapter | None) -> None:
        """Put the adapter on the shared weights."""
        self.source.wear(adapter)

    def own_logits(self, batch: Batch) -> Tensor:
        """Logits of the Hugging Face model itself, which this engine must reproduce."""
        return self.source.own_logits(batch)


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
