"""The reference backend: a Hugging Face causal language model under plain hooks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from personaprobe.models.backends.shared_blocks import Trunk, untouched
from personaprobe.models.edits.edit import SiteEdits
from personaprobe.models.edits.hooks import Hooks, Reached
from personaprobe.models.edits.layout import Layout
from personaprobe.models.fused.model import FusedModel
from personaprobe.models.network import HEAD_CHUNK, Decoder, Fork, Network
from personaprobe.models.packing.prefix_tree import PackedTexts, pack_prefix_tree
from personaprobe.models.packing.segment_attention import attention_within_segments, supports_varlen
from personaprobe.models.tokens import Batch
from personaprobe.models.weights.adapter import LoraAdapter, Wardrobe
from personaprobe.site import Site

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from personaprobe.models.generation.cuda_graphs import Capture


class HuggingFaceNetwork(Network):
    """A causal language model from transformers, with sdpa attention kept as it is.

    Attributes:
        model: the Hugging Face model.
        layout: where its streams are.
        window: tokens that sliding attention looks back over; None where every block sees everything.
        kinds: of attention by block, where the architecture tells them apart.
        compiles: whether elementwise work on many rows is compiled while the model is busy.
    """

    def __init__(
        self,
        model: Any,
        layout: Layout,
        pad_id: int,
        stored_dtype: torch.dtype,
        *,
        compiles: bool = False,
    ) -> None:
        self.model = model
        self.layout = layout
        self.pad_id = pad_id
        self.streams = layout.streams
        self.n_layers = len(layout.blocks)
        self.d_model = int(model.config.hidden_size)
        self.vocab_size = int(model.get_output_embeddings().weight.shape[0])
        self.device = model.device
        self.dtype = model.dtype
        self.compiles = compiles
        self._wardrobe = Wardrobe(model, stored_dtype)
        self.window: int | None = getattr(model.config, "sliding_window", None)
        self.kinds: list[str] | None = getattr(model.config, "layer_types", None)
        self._softcap = getattr(model.config, "final_logit_softcapping", None)

    @cached_property
    def _fused(self) -> FusedModel:
        return FusedModel(self.model, compiles=self.compiles)

    def wear(self, adapter: LoraAdapter | None) -> None:
        if adapter != self._wardrobe.worn:
            self._fused.clear()
        self._wardrobe.wear(adapter)

    @contextmanager
    def busy(self) -> Iterator[None]:
        with self._fused.inference_session():
            yield

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

        woven = pack_prefix_tree(batch) if self._weaves(batch) else None
        hooks = Hooks(self.layout, edits, sites, stop=True)
        with torch.inference_mode():
            with suppress(Reached):
                if woven is None:
                    self._read(batch, hooks)
                else:
                    self._read_woven(woven, hooks)
            return {
                site: read if woven is None else woven.to_padded(read) for site, read in hooks.read.items()
            }

    def _weaves(self, batch: Batch) -> bool:
        """Not where attention is cut by a window, nor where padding comes first."""
        inside = self.window is None or batch.ids.shape[1] <= self.window
        return self.packs and inside and len(batch.ids) > 1 and bool(batch.on_cpu.mask[:, 0].all())

    @property
    def packs(self) -> bool:
        """Whether texts stand one after another in a row: not where attention is softcapped, nor where only a mask helps."""
        return self._attends_plainly and supports_varlen(self.device, self.dtype)

    @property
    def attends_itself(self) -> bool:
        """Whether slots attend by an own function: not where attention is softcapped, nor on a GPU."""
        return self._attends_plainly and self.device.type == "cpu"

    @property
    def _attends_plainly(self) -> bool:
        return bool(self.model.config._attn_implementation == "sdpa")

    @property
    def recorder(self) -> Callable[[], Capture] | None:
        """What makes a recorder of steps of decoding; None where each step is computed."""
        from personaprobe.models.generation.cuda_graphs import CudaGraphCapture

        return CudaGraphCapture if self.compiles and self.device.type == "cuda" else None

    def gradients(self, batch: Batch, site: Site, edits: SiteEdits) -> tuple[Tensor, Tensor]:
        """Activations at a site after the edits, and the gradient there of −Σ log p(response token), float32.

        Both are ``(batch, pos, d_model)``. Weights have no gradient; only the blocks above the site are traced.
        """
        import torch

        taken: list[Tensor] = []

        def take(activations: Tensor, roles: Tensor) -> Tensor:
            taken.append(activations.detach().requires_grad_())
            return taken[0]

        edits = {**edits, site: (*edits.get(site, ()), take)}
        predicts = batch.predicting
        with torch.enable_grad(), Hooks(self.layout, edits) as hooks:
            hooks.roles = batch.roles
            hidden = self._decoder(batch)[:, :-1][predicts]
            logits = self.layout.head(hidden).float()
            if self._softcap is not None:
                logits = (logits / self._softcap).tanh() * self._softcap
            loss = torch.nn.functional.cross_entropy(logits, batch.ids[:, 1:][predicts], reduction="sum")
            (gradient,) = torch.autograd.grad(loss, taken)
        return taken[0].detach().float(), gradient.float()

    def response_logits(self, batch: Batch, edits: SiteEdits) -> Iterator[Tensor]:
        import torch

        hidden = self.hidden(batch, edits)[:, :-1][batch.predicting]
        yield from map(self.head, torch.split(hidden, HEAD_CHUNK))

    def log_probs(self, batch: Batch, edits: SiteEdits) -> Tensor:
        import torch

        hidden = self.hidden(batch, edits)[:, :-1][batch.predicting]
        out = torch.zeros(batch.ids.shape, device=self.device)
        out[:, 1:][batch.predicting] = self._chosen(hidden, batch.ids[:, 1:][batch.predicting])
        return out

    def fork_log_probs(self, forks: Sequence[Fork], edits: SiteEdits) -> list[list[Tensor]]:
        from personaprobe.models.packing.forks import pack_forks, unpack_forks

        if self._outgrown(forks):
            return super().fork_log_probs(forks, edits)
        packed = pack_forks(forks, self.device)
        hidden = self._read_woven(packed.texts, Hooks(self.layout, edits))
        return unpack_forks(forks, self._chosen(hidden[0, packed.predictor_index], packed.answer_ids))

    def fork_states(self, forks: Sequence[Fork], site: Site, edits: SiteEdits) -> list[list[Tensor]]:
        from personaprobe.models.packing.forks import pack_forks, unpack_forks

        if self._outgrown(forks):
            return super().fork_states(forks, site, edits)
        packed, hooks = pack_forks(forks, self.device), Hooks(self.layout, edits, [site], stop=True)
        with suppress(Reached):
            self._read_woven(packed.texts, hooks)
        return unpack_forks(forks, hooks.read[site][0, packed.answer_index])

    def fork_log_probs_each(
        self, forks: Sequence[Fork], edits: Sequence[SiteEdits]
    ) -> list[list[list[Tensor]]]:
        trunk = Trunk(self.layout, untouched(edits, self.n_layers) if len(edits) > 1 else 0)
        scored = []
        for laid in edits:
            with trunk.shared():
                scored.append(self.fork_log_probs(forks, laid))
        return scored

    def _outgrown(self, forks: Sequence[Fork]) -> bool:
        """Whether a packed mask would show what lies behind the model's own window."""
        return self.window is not None and max(map(_longest, forks)) > self.window

    def _read_woven(self, woven: PackedTexts, hooks: Hooks) -> Tensor:
        """One pass over a woven row under hooks: ``(1, pos, d_model)`` after the final norm."""
        row = woven.row
        if not self.packs:
            return self._read(row, hooks, woven.attention_mask(self.dtype), woven.positions)
        with attention_within_segments(self.model.config, woven.segments, row.ids.shape[1], self.device):
            return self._read(row, hooks, positions=woven.positions)

    @contextmanager
    def decoding(self, edits: Sequence[SiteEdits]) -> Iterator[Decoder]:
        from personaprobe.models.generation.decoder import CachedDecoder

        sites: SiteEdits = {site: () for own in edits for site in own}
        with Hooks(self.layout, sites) as hooks, self.busy():
            yield CachedDecoder(self, hooks, edits)

    def hidden(self, batch: Batch, edits: SiteEdits) -> Tensor:
        """What the head reads: ``(batch, pos, d_model)`` after the final norm."""
        return self._read(batch, Hooks(self.layout, edits))

    def _read(
        self,
        batch: Batch,
        hooks: Hooks,
        attention: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """One pass under hooks, without gradients."""
        import torch

        with torch.inference_mode(), hooks:
            hooks.roles = batch.roles
            return self._decoder(batch, attention, positions)

    def _decoder(
        self,
        batch: Batch,
        attention: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        output = self.layout.decoder(
            input_ids=batch.ids,
            attention_mask=batch.mask.long() if attention is None else attention,
            position_ids=batch.positions if positions is None else positions,
            use_cache=False,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def head(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states, with the architecture's soft cap where it has one."""
        import torch

        with torch.inference_mode():
            logits: Tensor = self.layout.head(hidden)
            return logits if self._softcap is None else (logits / self._softcap).tanh() * self._softcap

    def _chosen(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Log-probabilities of ``ids`` given the hidden states before them; float32, in chunks."""
        import torch

        parts = [
            # cross-entropy is the fused form of log-softmax and gather
            -torch.nn.functional.cross_entropy(self.head(h).float(), i, reduction="none")
            for h, i in zip(torch.split(hidden, HEAD_CHUNK), torch.split(ids, HEAD_CHUNK), strict=True)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, device=self.device)


def _longest(fork: Fork) -> int:
    return len(fork.prompt) + max(map(len, fork.answers))
