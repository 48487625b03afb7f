"""The reference backend: a Hugging Face causal language model under plain PyTorch hooks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

from personaprobe.compute.threads import adapt_threads
from personaprobe.models.backends.logit_scaling import LogitScaling
from personaprobe.models.backends.shared_blocks import SharedBlocks, n_unedited_blocks
from personaprobe.models.edits.edit import EditPlan, SiteEdits
from personaprobe.models.edits.hooks import Hooks, LastTapReached
from personaprobe.models.edits.layout import Layout
from personaprobe.models.fused.model import FusedModel
from personaprobe.models.network import HEAD_CHUNK, Decoder, Fork, Network, Reliance
from personaprobe.models.packing.prefix_tree import PackedTexts, pack_prefix_tree
from personaprobe.models.packing.segment_attention import attention_within_segments, supports_varlen
from personaprobe.models.tokens import Batch
from personaprobe.models.weights.adapter import LoraAdapter
from personaprobe.models.weights.adapter_switch import AdapterSwitcher
from personaprobe.site import Site

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from personaprobe.models.generation.cuda_graphs import Capture


class HuggingFaceNetwork(Network):
    """A causal language model from transformers that was loaded with SDPA attention.

    Attributes:
        model: the Hugging Face model.
        layout: the modules where each stream is read and written.
        stored_dtype: dtype that holds the base weights without loss.
        sliding_window: tokens that sliding attention looks back over; None where every block sees everything.
        attention_types: of each block, ``full_attention`` or ``sliding_attention``; None where all blocks are alike.
        compiles: whether elementwise functions of many rows are compiled inside an inference session.
        switched_off: ``packing``: each text in a row of its own; ``KV cache``: all tokens anew at every step.
        proof_spec: what checks of this network depend on, as plain data; None where their results are not kept.
    """

    def __init__(
        self,
        model: Any,
        layout: Layout,
        pad_id: int,
        stored_dtype: torch.dtype,
        *,
        compiles: bool = False,
        switched_off: Collection[Reliance] = (),
    ) -> None:
        """Read the sizes of a loaded model; nothing is run or changed.

        Args:
            model: from transformers, on its device.
            layout: of this model.
            pad_id: id of the padding token.
            stored_dtype: dtype that holds the base weights without loss; copies of them are kept in it.
            compiles: see the class.
            switched_off: parts that the self-check refused for this model.
        """
        self.model, self.layout, self.pad_id, self.stored_dtype = model, layout, pad_id, stored_dtype
        self.streams = layout.streams
        self.n_layers = len(layout.blocks)
        config = layout.config
        self.d_model = int(config.hidden_size)
        self.vocab_size = int(model.get_output_embeddings().weight.shape[0])
        self.device, self.dtype = model.device, model.dtype
        self.compiles = compiles
        self.switched_off: frozenset[Reliance] = frozenset(switched_off)
        self.proof_spec: Mapping[str, Any] | None = None
        self._adapters = AdapterSwitcher(model, stored_dtype)
        self.sliding_window: int | None = getattr(config, "sliding_window", None)
        self.attention_types: list[str] | None = getattr(config, "layer_types", None)
        self._scaled = LogitScaling.of(config)

    @cached_property
    def _fused(self) -> FusedModel:
        return FusedModel(self.model, compiles=self.compiles)

    def prepare(self) -> None:
        """Find the parts that can be fused now: their modules are run on probes, which hooks of others should not see."""
        self._fused  # noqa: B018

    def activate_adapter(self, adapter: LoraAdapter | None) -> None:
        if adapter != self._adapters.active:
            self._fused.clear()
        self._adapters.activate(adapter)

    def weights(self) -> Mapping[str, Tensor]:
        return {name: weight.detach() for name, weight in self.model.named_parameters()}

    @contextmanager
    def inference_session(self) -> Iterator[None]:
        with self._fused.inference_session():
            yield

    @property
    def packs(self) -> bool:
        """Whether several texts can be packed into one row.

        Not where attention is softcapped, nor where only a mask can separate texts, since a mask costs as much as padding.
        """
        if "packing" in self.switched_off:
            return False
        return self._has_plain_attention and supports_varlen(self.device, self.dtype)

    def without_packing(self) -> HuggingFaceNetwork:
        unpacked = copy(self)
        unpacked.switched_off = self.switched_off | {"packing"}
        return unpacked

    @property
    def uses_kv_cache_attention(self) -> bool:
        """Whether decoding steps use our attention over the KV cache: on a CPU, unless attention is softcapped."""
        return self._has_plain_attention and self.device.type == "cpu"

    @property
    def graph_capture(self) -> Callable[[], Capture] | None:
        """Makes what captures decoding steps as CUDA graphs; None where each step is computed eagerly."""
        from personaprobe.models.generation.cuda_graphs import CudaGraphCapture

        return CudaGraphCapture if self.compiles and self.device.type == "cuda" else None

    @property
    def _has_plain_attention(self) -> bool:
        return bool(self.layout.config._attn_implementation == "sdpa")

    def logits(self, batch: Batch, edits: SiteEdits) -> Tensor:
        return self.head(self.hidden(batch, edits))

    def own_logits(self, batch: Batch) -> Tensor:
        import torch

        with torch.inference_mode():
            output = self.model(
                input_ids=batch.ids,
                attention_mask=batch.mask.long(),
                position_ids=batch.positions,
                use_cache=False,
            )
        logits: Tensor = output.logits
        return logits

    def activations(self, batch: Batch, sites: Collection[Site], edits: SiteEdits) -> dict[Site, Tensor]:
        import torch

        packed = pack_prefix_tree(batch) if self.can_pack(batch) else None
        hooks = self._hooks(edits, sites, stop=True)
        with torch.inference_mode():
            with suppress(LastTapReached):
                _ = self._run(batch, hooks) if packed is None else self._run_packed(packed, hooks)
            return {
                site: read if packed is None else packed.to_padded(read) for site, read in hooks.read.items()
            }

    def gradients(self, batch: Batch, site: Site, edits: SiteEdits) -> tuple[Tensor, Tensor]:
        """Activations at a site after the edits, and the gradient there of −Σ log p(response token), float32.

        Both are ``(batch, pos, d_model)``. Weights have no gradient; only the blocks above the site are traced.
        """
        import torch

        leaves: list[Tensor] = []

        def detach(activations: Tensor, roles: Tensor) -> Tensor:
            leaves.append(activations.detach().requires_grad_())
            return leaves[0]

        edits = {**edits, site: (*edits.get(site, ()), detach)}
        predicting = batch.predicting
        with torch.enable_grad(), self._hooks(edits) as hooks:
            hooks.roles = batch.roles
            hidden = self._decode(batch)[:, :-1][predicting]
            logits = self._scaled(self.layout.head(hidden).float())
            loss = torch.nn.functional.cross_entropy(logits, batch.ids[:, 1:][predicting], reduction="sum")
            (gradient,) = torch.autograd.grad(loss, leaves)
        return leaves[0].detach().float(), gradient.float()

    def response_logits(self, batch: Batch, edits: SiteEdits) -> Iterator[Tensor]:
        import torch

        hidden = self.hidden(batch, edits)[:, :-1][batch.predicting]
        yield from map(self.head, torch.split(hidden, HEAD_CHUNK))

    def log_probs(self, batch: Batch, edits: SiteEdits) -> Tensor:
        import torch

        hidden = self.hidden(batch, edits)[:, :-1][batch.predicting]
        out = torch.zeros(batch.ids.shape, device=self.device)
        out[:, 1:][batch.predicting] = self._log_probs_of(batch.ids[:, 1:][batch.predicting], hidden)
        return out

    def fork_log_probs(self, forks: Sequence[Fork], edits: SiteEdits) -> list[list[Tensor]]:
        from personaprobe.models.packing.forks import pack_forks, unpack_forks

        if self._must_separate(forks):
            return super().fork_log_probs(forks, edits)
        packed = pack_forks(forks, self.device)
        hidden = self._run_packed(packed.texts, self._hooks(edits))
        return unpack_forks(forks, self._log_probs_of(packed.answer_ids, hidden[0, packed.predictor_index]))

    def fork_states(
        self, forks: Sequence[Fork], sites: Sequence[Site], edits: SiteEdits
    ) -> list[list[Tensor]]:
        import torch

        from personaprobe.models.packing.forks import pack_forks, unpack_forks

        if self._must_separate(forks):
            return super().fork_states(forks, sites, edits)
        packed, hooks = pack_forks(forks, self.device), self._hooks(edits, sites, stop=True)
        with suppress(LastTapReached):
            self._run_packed(packed.texts, hooks)
        states = torch.stack([hooks.read[site][0, packed.answer_index] for site in sites], 1)
        return unpack_forks(forks, states)

    def fork_log_probs_each(
        self, forks: Sequence[Fork], plans: Sequence[SiteEdits]
    ) -> list[list[list[Tensor]]]:
        blocks = SharedBlocks(self.layout, n_unedited_blocks(plans, self.n_layers) if len(plans) > 1 else 0)
        scored = []
        for edits in plans:
            with blocks.shared():
                scored.append(self.fork_log_probs(forks, edits))
        return scored

    @contextmanager
    def decoding(self, plans: Sequence[EditPlan]) -> Iterator[Decoder]:
        from personaprobe.models.generation.decoder import CachedDecoder

        if "KV cache" in self.switched_off:
            with super().decoding(plans) as uncached:
                yield uncached
            return
        sites: SiteEdits = {site: () for plan in plans for site in plan}
        with self.inference_session(), self._hooks(sites) as hooks:
            yield CachedDecoder(self, hooks, plans)

    def hidden(self, batch: Batch, edits: SiteEdits) -> Tensor:
        """Hidden states after the final norm, the input of the head: ``(batch, pos, d_model)``."""
        return self._run(batch, self._hooks(edits))

    def head(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states, as the model's own class scales and caps them."""
        import torch

        with torch.inference_mode():
            return self._scaled(self.layout.head(hidden))

    def _hooks(self, edits: SiteEdits, taps: Collection[Site] = (), *, stop: bool = False) -> Hooks:
        return Hooks(self.layout, edits, taps, stop=stop, project=self._fused.edit_projection)

    def can_pack(self, batch: Batch) -> bool:
        """Whether packing the batch is possible and useful: several texts, right-padded, within the sliding window."""
        in_window = self.sliding_window is None or batch.ids.shape[1] <= self.sliding_window
        return self.packs and in_window and len(batch.ids) > 1 and bool(batch.on_cpu.mask[:, 0].all())

    def _must_separate(self, forks: Sequence[Fork]) -> bool:
        """Whether forks need rows of their own: a packed mask would show tokens before the model's own sliding window."""
        window = self.sliding_window
        return "packing" in self.switched_off or (
            window is not None and max(fork.longest_row for fork in forks) > window
        )

    def _run_packed(self, packed: PackedTexts, hooks: Hooks) -> Tensor:
        """One forward pass over packed texts under hooks: ``(1, pos, d_model)`` after the final norm."""
        row = packed.row
        if not self.packs:
            return self._run(row, hooks, packed.attention_mask(self.dtype), packed.positions)
        with attention_within_segments(self.layout.config, packed.segments, row.ids.shape[1], self.device):
            return self._run(row, hooks, positions=packed.positions)

    def _run(
        self,
        batch: Batch,
        hooks: Hooks,
        attention_mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """One forward pass under hooks, without gradients."""
        import torch

        adapt_threads(short=False)
        with torch.inference_mode(), hooks:
            hooks.roles = batch.roles
            return self._decode(batch, attention_mask, positions)

    def _decode(
        self,
        batch: Batch,
        attention_mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Hidden states of the stack of blocks; mask and positions are those of the batch unless given."""
        output = self.layout.decoder(
            input_ids=batch.ids,
            attention_mask=batch.mask.long() if attention_mask is None else attention_mask,
            position_ids=batch.positions if positions is None else positions,
            use_cache=False,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _log_probs_of(self, ids: Tensor, hidden: Tensor) -> Tensor:
        """Log-probabilities of ``ids`` given the hidden states that predict them; float32, in chunks."""
        import torch

        parts = [
            # cross-entropy is the fused form of log-softmax and gather
            -torch.nn.functional.cross_entropy(self.head(h).float(), i, reduction="none")
            for h, i in zip(torch.split(hidden, HEAD_CHUNK), torch.split(ids, HEAD_CHUNK), strict=True)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, device=self.device)
