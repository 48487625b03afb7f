"""Decoding with a Hugging Face model's own blocks: prompts are read once, answers go on in a table of slots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from personaprobe.models.attention import added_to_scores, attending_by
from personaprobe.models.edits import SiteEdits, beside
from personaprobe.models.packing import begun_alike, common_prefix
from personaprobe.models.prefixes import SHORTEST, Prefixes
from personaprobe.models.slots import NAME, Slots, attend
from personaprobe.models.tokens import Role, Tokens, by_length, pad

if TYPE_CHECKING:
    from torch import Tensor

    from personaprobe.models.hooks import Hooks
    from personaprobe.models.hugging_face import HuggingFaceNetwork

READ_TOKENS = {"cpu": 1024}
"""Of prompts that are read in one pass, padding included: more are read no faster there, and are less alike in length."""

MANY_READ_TOKENS = 16384
"""The same on other devices, which are not filled by few."""


class SlotDecoder:
    """Conversations that enter and leave one by one; hooks stay installed for the whole generation."""

    def __init__(self, network: HuggingFaceNetwork, hooks: Hooks) -> None:
        import torch

        self._network = network
        self._hooks = hooks
        self._edits: list[SiteEdits] = []
        # products of few rows are faster in float32 on a CPU, and what is kept so is not converted at every step
        self._dtype = torch.float32 if network.attends_itself else network.dtype
        self._slots = Slots(network.n_layers, network.device, self._dtype)
        self._prefixes = Prefixes(self._read_prefix)
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
        """Feed every row its next token."""
        import torch

        self._hooks.roles = self._steps
        with torch.inference_mode(), self._attending():
            hidden = self._forward(ids[:, None], self._looks(), self._slots.ends[:, None], self._slots)[:, 0]
            self._slots.advance()
            return self._network.head(hidden).float()

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

        self._hooks.edits = beside(self._edits) if self._edits else {}
        self._steps = torch.full((len(self._edits), 1), int(Role.RESPONSE), device=self._network.device)

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
        self._hooks.roles, self._hooks.edits = batch.roles, beside(kinds)
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
        self._hooks.roles, self._hooks.edits = batch.roles, beside(edits)
        hidden = self._forward(batch.ids, mask, batch.positions + n_before, cache)
        last = torch.tensor([len(row) - 1 for row in rest], device=hidden.device)
        return self._network.head(hidden[torch.arange(len(rest), device=hidden.device), last]).float()

    def _looks(self) -> Any:
        """Who may look at what, as what is added to attention scores; by kind of block where they differ."""
        window, width = self._network.window, self._slots.width
        everywhere = added_to_scores(self._slots.barred(), self._dtype)
        if window is None or width <= window:
            return everywhere
        nearby = added_to_scores(self._slots.barred(window), self._dtype)
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
