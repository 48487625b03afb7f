"""A network that another library runs on the weights of a loaded Hugging Face model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.network import Network
from personaprobe.models.self_check import prove

if TYPE_CHECKING:
    from torch import Tensor

    from personaprobe.models.tokens import Batch
    from personaprobe.models.weights.adapter import LoraAdapter


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
        network.activate_adapter(None)
        hosted = cls(network)
        prove(hosted)
        return hosted

    def activate_adapter(self, adapter: LoraAdapter | None) -> None:
        """Put the adapter on the shared weights."""
        self.source.activate_adapter(adapter)

    def own_logits(self, batch: Batch) -> Tensor:
        """Logits of the Hugging Face model itself, which this engine must reproduce."""
        return self.source.own_logits(batch)
