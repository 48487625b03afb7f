"""A network in training: the loss of responses with its gradient, in few passes over memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
from personaprobe.models.backends.logit_scaling import LogitScaling
from personaprobe.models.fused.module_patch import patched
from personaprobe.models.packing.prefix_tree import pack_prefix_tree
from personaprobe.models.tokens import Batch
from personaprobe.models.training.attention import differentiable_attention
from personaprobe.models.training.cross_entropy import ChunkedCrossEntropy
from personaprobe.models.training.lora_linear import lora_patches
from personaprobe.models.training.rms_norm import norm_patches
from personaprobe.models.training.rotary import rotary_patches

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class TrainableNetwork:
    """A network of which an adapter is trained, while the base is frozen, or all weights.

    Texts are packed into one row without padding, and prefixes that they share are computed once, where the network's
    self-check found that packing changes nothing; elsewhere they are padded.
    """

    def __init__(self, network: HuggingFaceNetwork, trained: Any) -> None:
        """Compute nothing yet.

        Args:
            network: the base; its weights have gradients where they require them.
            trained: the module whose weights are trained: the PEFT model that holds the base and the adapter, or the
                network's own model.
        """
        self.network = network
        self._trained = trained
        self._scaled = LogitScaling.of(network.layout.config)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Compute by functions of fewer passes inside the block."""
        model = self.network.model
        with patched(chain(lora_patches(self._trained), norm_patches(model), rotary_patches(model))):
            yield

    def response_loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Mean cross-entropy of the response tokens of a batch, nats; the unembedding is computed for those only."""
        answers = batch.ids[:, 1:][batch.predicting]
        hidden, weights = self._predictors(batch), self._head_weights()
        loss: Tensor = ChunkedCrossEntropy.apply(hidden, answers, self._head, *weights)  # type: ignore[no-untyped-call]
        return loss

    def _predictors(self, batch: Batch) -> Float[Tensor, "token d_model"]:
        """Hidden states at the positions that predict response tokens."""
        import torch

        if not self.network.can_pack(batch):
            return self._decode(batch.ids, batch.positions, batch.mask.long())[:, :-1][batch.predicting]
        packed = pack_prefix_tree(batch)
        ids, config = packed.row.ids, self.network.layout.config
        with differentiable_attention(config, packed.segments, ids.shape[1], ids.device):
            hidden = self._decode(ids, packed.positions, torch.ones_like(ids))
        return hidden[0].index_select(0, packed.row_index[:, :-1][batch.predicting])

    def _decode(self, ids: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        output = self.network.layout.decoder(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _head_weights(self) -> list[Tensor]:
        """The weights of the head whose gradient is wanted."""
        import torch

        return [
            weight
            for weight in self.network.layout.head.parameters()
            if weight.requires_grad and torch.is_grad_enabled()
        ]

    def _head(self, hidden: Tensor) -> Tensor:
        return self._scaled(self.network.layout.head(hidden))
