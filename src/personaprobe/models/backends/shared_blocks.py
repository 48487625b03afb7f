"""The shallow part of a forward pass, computed once for several that differ only behind it.

Models that differ in their edits alone do the same work up to the first edited block. The first of them runs it and its
result is kept; the others pick it up there. They compute exactly what they would have computed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from personaprobe.models.edits.edit import SiteEdits
from personaprobe.models.edits.layout import Layout
from personaprobe.models.fused.module_patch import forward_patch, patched

if TYPE_CHECKING:
    from torch import Tensor, nn


def untouched(edits: Sequence[SiteEdits], n_layers: int) -> int:
    """How many of the first blocks no edit reaches: what they put out is the same under all of them."""
    sites = [site for laid in edits for site in laid]
    return min((site.layer + (site.stream == "resid_post") for site in sites), default=n_layers)


class Trunk:
    """The first blocks of one network, for passes that read the same tokens in the same order.

    Attributes:
        blocks: the untouched ones; none of them makes this a thing that does nothing.
    """

    def __init__(self, layout: Layout, n_blocks: int) -> None:
        self.blocks = layout.blocks[:n_blocks]
        self._kept: list[Any] = []
        self._complete = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Forward passes inside the block keep what the trunk puts out, or, from the second time on, pick it up."""
        if not self.blocks:
            yield
            return
        *earlier, last = self.blocks
        coming = iter(self._kept)
        with ExitStack() as stack:
            if self._complete:
                for block in earlier:
                    stack.enter_context(_acting(block, lambda hidden: _alike(self._kept[0], hidden)))
                stack.enter_context(_acting(last, lambda _: _copied(next(coming))))
            else:
                stack.enter_context(_watched(last, lambda output: self._kept.append(_copied(output))))
            yield
        self._complete = True


@contextmanager
def _acting(block: nn.Module, act: Callable[[Tensor], Any]) -> Iterator[None]:
    """Let a block do something else with its input; its hooks still run."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        return act(args[0] if args else kwargs["hidden_states"])

    with patched([forward_patch(block, forward)]):
        yield


@contextmanager
def _watched(block: nn.Module, see: Callable[[Any], None]) -> Iterator[None]:
    """Let somebody see what a block puts out, before its hooks change it."""
    own = block.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = own(*args, **kwargs)
        see(output)
        return output

    with patched([forward_patch(block, forward)]):
        yield


def _alike(output: Any, hidden: Tensor) -> Any:
    """Hidden states in the form in which this architecture's blocks put them out."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def _copied(output: Any) -> Any:
    """The output with hidden states of its own: some blocks write into what they are given."""
    return (output[0].clone(), *output[1:]) if isinstance(output, tuple) else output.clone()
