"""A network that another library runs on the weights of a loaded Hugging Face model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.network import Network

if TYPE_CHECKING:
    from torch import Tensor

    from personaprobe.models.tokens import Batch
    from personaprobe.models.weights.adapter import LoraAdapter


class Hosted(Network):
    """The base class of networks that run the weights of a reference network in another way.

    A subclass defines :meth:`logits` and :meth:`activations`; adapters, scoring and decoding come with this class.

    Attributes:
        source: the reference network that holds the weights.
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

    def activate_adapter(self, adapter: LoraAdapter | None) -> None:
        """Merge the adapter into the shared weights, or restore them."""
        self.source.activate_adapter(adapter)

    def weights(self) -> Mapping[str, Tensor]:
        """Those of the reference network."""
        return self.source.weights()

    def own_logits(self, batch: Batch) -> Tensor:
        """Logits of the Hugging Face model itself, which this backend must reproduce."""
        return self.source.own_logits(batch)
