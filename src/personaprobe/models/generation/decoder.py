"""Decoding with a Hugging Face model's own blocks: prompts are read once, answers go on in a table of slots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from personaprobe.models.edits.edit import Kinds, SiteEdits
from personaprobe.models.generation.cuda_graphs import RecordedSteps
from personaprobe.models.generation.kv_cache import NAME, Reach, Slots, attend
from personaprobe.models.generation.prefix_cache import Prefixes
from personaprobe.models.packing.attention import added_to_scores, attending_by
from personaprobe.models.packing.forks import begun_alike, common_prefix
from personaprobe.models.packing.prefix_tree import SHORTEST
from personaprobe.models.tokens import Batch, Role, Tokens, by_length, pad

if TYPE_CHECKING:
    from torch import Tensor

    from personaprobe.models.backends.hugging_face import HuggingFaceNetwork
    from personaprobe.models.edits.hooks import Hooks

READ_TOKENS = {"cpu": 1024}
"""Of prompts that are read in one pass, padding included: more are read no faster there, and are less alike in length."""

MANY_READ_TOKENS = 16384
"""The same on other devices, which are not filled by few."""


class SlotDecoder:
    """Conversations that enter and leave one by one; hooks stay installed for the whole generation."""

    def __init__(self, network: HuggingFaceNetwork, hooks: Hooks, edits: Sequence[SiteEdits]) -> None:
        """Decode under any of some edits, at whose sites hooks are installed."""
        import torch

        self._network = network
        self._hooks = hooks
        self._kinds = Kinds(edits)
        self._edits: list[SiteEdits] = []
        # products of few rows are faster in float32 on a CPU, and what is kept so is not converted at every step
        self._dtype = torch.float32 if network.attends_itself else network.dtype
        self._slots = Slots(network.device, self._dtype)
        self._prefixes = Prefixes(self._read_prefix)
        self._recorded = self._recording()
        self._settle()

    def admit(
        self, prompts: Sequence[Tokens], edits: Sequence[SiteEdits], rows: Sequence[int], room: int
    ) -> Tensor:
        """Read prompts, each under its own edits, and let ``rows[i]`` of them go on as a further row each."""
        import torch

        start = len(self._edits)
        self._slots.admit([len(prompts[index]) for index in rows], room)
        found: dict[int, Tensor] = {}
        with torch.inference_mode():
            for indices, logits, cache in self._reading(prompts, edits):
                found.update(zip(indices, logits, strict=True))
                place = {index: place for place, index in enumerate(indices)}
                entering = [(start + row, place[index]) for row, index in enumerate(rows) if index in place]
                self._slots.fill(cache, *zip(*entering, strict=True))
            self._edits += [edits[index] for index in rows]
            self._settle()
            return torch.stack([found[index] for index in rows])

    def step(self, ids: Tensor) -> Tensor:
        """Feed every row its next token; logits of what follows it hold until the next step."""
        import torch

        with torch.inference_mode():
            if self._recorded is None:
                logits = self._compute(ids, self._slots.reach(), self._laid)
            else:
                logits = self._recorded.step(ids, self._which)
            self._slots.advance()
            return logits

    def keep(self, order: Sequence[int]) -> None:
        """Go on with row ``order[i]`` as row ``i``."""
        import torch

        with torch.inference_mode():
            self._slots.keep(order)
        self._edits = [self._edits[old] for old in order]
        self._settle()

    def _settle(self) -> None:
        """Lay the edits over the rows there are now."""
        import torch

        if self._recorded is None:
            self._laid = self._kinds.over(self._edits, self._network.device)
        else:
            kinds = self._kinds.of(self._edits)
            self._which = torch.tensor(kinds, dtype=torch.long, device=self._network.device)

    def _recording(self) -> RecordedSteps | None:
        """Steps that are replayed, where a device can and all edits let it."""
        import torch

        recorder = self._network.recorder
        if recorder is None or self._kinds.following(torch.zeros(0, dtype=torch.long)) is None:
            return None

        def compute(ids: Tensor, reach: Reach, kinds: Tensor) -> Tensor:
            return self._compute(ids, reach, self._kinds.following(kinds) or {})

        return RecordedSteps(compute, self._slots, recorder)

    def _compute(self, ids: Tensor, reach: Reach, edits: SiteEdits) -> Tensor:
        """Logits of what follows a token of every row."""
        import torch

        self._hooks.edits = edits
        self._hooks.roles = torch.full_like(ids, int(Role.RESPONSE))[:, None]
        with self._attending():
            hidden = self._forward(ids[:, None], self._looks(reach), reach.ends[:, None], reach)[:, 0]
        return self._network.head(hidden).float()

    def _reading(
        self, prompts: Sequence[Tokens], edits: Sequence[SiteEdits]
    ) -> Iterator[tuple[list[int], Tensor, Any]]:
        """Prompts of like beginning and length together: which, logits of what comes next, and keys and values."""
        self._prefixes.next()
        for indices in begun_alike(prompts, SHORTEST):
            common = common_prefix([prompts[index] for index in indices])
            prefix = self._prefixes.worthwhile(common, len(indices))
            most = READ_TOKENS.get(self._network.device.type, MANY_READ_TOKENS)
            for few in by_length([prompts[index].after(len(prefix)) for index in indices], most):
                own = [indices[each] for each in few]
                under = [edits[index] for index in own]
                cache = self._prefixes.cache(prefix, under)
                yield own, self._read([prompts[i] for i in own], len(prefix), under, cache), cache

    def _read_prefix(self, prefix: Tokens, kinds: Sequence[SiteEdits]) -> Any:
        """What prompts begin with, read under each of some edits: a cache with a row for each."""
        from transformers import DynamicCache

        read = DynamicCache()
        batch = pad([prefix] * len(kinds), self._network.pad_id).to(self._network.device)
        self._lay(batch, kinds)
        self._forward(batch.ids, batch.mask.long(), batch.positions, read)
        return read

    def _read(
        self, prompts: Sequence[Tokens], n_before: int, edits: Sequence[SiteEdits], cache: Any
    ) -> Tensor:
        """The rest of every prompt; logits of what comes next, in float32."""
        import torch

        rest = [prompt.after(n_before) for prompt in prompts]
        batch = pad(rest, self._network.pad_id).to(self._network.device)
        mask = torch.nn.functional.pad(batch.mask.long(), (n_before, 0), value=1)
        self._lay(batch, edits)
        hidden = self._forward(batch.ids, mask, batch.positions + n_before, cache)
        last = torch.tensor([len(row) - 1 for row in rest], device=hidden.device)
        return self._network.head(hidden[torch.arange(len(rest), device=hidden.device), last]).float()

    def _lay(self, batch: Batch, edits: Sequence[SiteEdits]) -> None:
        """Let hooks edit a batch of prompts, each as its own edits say."""
        self._hooks.roles, self._hooks.edits = batch.roles, self._kinds.over(edits, self._network.device)

    def _looks(self, reach: Reach) -> Any:
        """Who may look at what, as what is added to attention scores; by kind of block where they differ."""
        window = self._network.window
        everywhere = added_to_scores(reach.barred(), self._dtype)
        if window is None or reach.width <= window:
            return everywhere
        nearby = added_to_scores(reach.barred(window), self._dtype)
        if self._network.kinds is None:
            return nearby
        return {"full_attention": everywhere, "sliding_attention": nearby}

    def _attending(self) -> AbstractContextManager[None]:
        if not self._network.attends_itself:
            return nullcontext()
        return attending_by(self._network.model.config, NAME, attend)

    def _forward(self, ids: Tensor, mask: Any, positions: Tensor, cache: Any) -> Tensor:
        output = self._network.layout.decoder(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        hidden: Tensor = output.last_hidden_state
        return hidden
