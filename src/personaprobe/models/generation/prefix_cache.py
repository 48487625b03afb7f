"""What prompts begin with, such as a system message: read once, and remembered for those that come later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from personaprobe.models.edits.edit import SiteEdits
from personaprobe.models.packing.prefix_tree import SHORTEST
from personaprobe.models.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class _Known:
    """A beginning under some edits: keys and values of every block, one row each."""

    edits: SiteEdits  # held, so that no others get their identity
    layers: tuple[tuple[Tensor, Tensor], ...]


class Prefixes:
    """Keys and values of beginnings, by the edits they were read under.

    Only what the last prompts began with is remembered.
    """

    def __init__(self, read: Callable[[Tokens, Sequence[SiteEdits]], Any]) -> None:
        """Remember nothing yet; ``read`` gives a transformers cache with a row for each of some edits."""
        self._read = read
        self._known: dict[tuple[Tokens, int], _Known] = {}
        self._used: dict[tuple[Tokens, int], _Known] = {}

    def worthwhile(self, common: Tokens, n_prompts: int) -> Tokens:
        """How much of what prompts have in common is not read with each of them.

        What is known already need not be read at all; more than that is read for its own sake if several prompts have it.

        Args:
            common: what all of some prompts begin with.
            n_prompts: how many they are.
        """
        fitting = (known for known, _ in (*self._used, *self._known) if common.first(len(known)) == known)
        known = max(fitting, key=len, default=common.first(0))
        more = len(common) - len(known)
        return common if n_prompts > 1 and more >= SHORTEST else known

    def cache(self, prefix: Tokens, edits: Sequence[SiteEdits]) -> Any:
        """A cache in which every row has read the prefix under its own edits."""
        import torch
        from transformers import DynamicCache

        cache = DynamicCache()  # full keys at every layer: a row's window is its own
        if not len(prefix):
            return cache
        known = self._all_known(prefix, edits)
        rows = [known[id(own)].layers for own in edits]
        for layer, parts in enumerate(zip(*rows, strict=True)):
            cache.update(*(torch.cat(each) for each in zip(*parts, strict=True)), layer)
        return cache

    def next(self) -> None:
        """Other prompts follow: what the last ones did not begin with is forgotten."""
        self._known, self._used = self._used, {}

    def _all_known(self, prefix: Tokens, edits: Sequence[SiteEdits]) -> dict[int, _Known]:
        kinds = {id(own): own for own in edits}
        remembered = {**self._known, **self._used}
        missing = [own for kind, own in kinds.items() if (prefix, kind) not in remembered]
        if missing:
            read = self._read(prefix, missing)
            for row, own in enumerate(missing):
                layers = tuple(
                    (layer.keys[row : row + 1], layer.values[row : row + 1]) for layer in read.layers
                )
                remembered[prefix, id(own)] = _Known(own, layers)
        self._used |= {(prefix, kind): remembered[prefix, kind] for kind in kinds}
        return {kind: remembered[prefix, kind] for kind in kinds}
