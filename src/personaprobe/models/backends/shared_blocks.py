"""The blocks before the first edit, computed once for several forward passes that differ only in later edits.

Models that differ only in their edits compute the same values up to the first edited block. The first pass runs these
blocks and their output is stored; the other passes start from it. The results are bitwise those of separate passes.
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


def n_unedited_blocks(plans: Sequence[SiteEdits], n_layers: int) -> int:
    """Number of leading blocks that no edit reaches; their output is the same under all plans."""
    sites = [site for plan in plans for site in plan]
    return min((site.layer + (site.stream == "resid_post") for site in sites), default=n_layers)


class SharedBlocks:
    """The first blocks of one network, for passes that read the same tokens in the same order.

    Attributes:
        blocks: the unedited ones; without any, :meth:`shared` does nothing.
    """

    def __init__(self, layout: Layout, n_blocks: int) -> None:
        self.blocks = layout.blocks[:n_blocks]
        self._outputs: list[Any] = []  # of the last shared block, one per forward pass of the first use
        self._complete = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Forward passes inside the first ``with`` block store the output of the shared blocks; later ones reuse it."""
        if not self.blocks:
            yield
            return
        *earlier, last = self.blocks
        stored = iter(self._outputs)
        with ExitStack() as stack:
            if self._complete:
                for block in earlier:
                    stack.enter_context(
                        _computing(block, lambda hidden: _in_form_of(self._outputs[0], hidden))
                    )
                stack.enter_context(_computing(last, lambda _: _cloned(next(stored))))
            else:
                stack.enter_context(_observed(last, lambda output: self._outputs.append(_cloned(output))))
            yield
        self._complete = True


@contextmanager
def _computing(block: nn.Module, function: Callable[[Tensor], Any]) -> Iterator[None]:
    """Let a block compute a function of its hidden states; its hooks still run."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        return function(args[0] if args else kwargs["hidden_states"])

    with patched([forward_patch(block, forward)]):
        yield


@contextmanager
def _observed(block: nn.Module, observe: Callable[[Any], None]) -> Iterator[None]:
    """Pass a block's output to ``observe``, before its hooks change it."""
    original = block.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        observe(output)
        return output

    with patched([forward_patch(block, forward)]):
        yield


def _in_form_of(output: Any, hidden: Tensor) -> Any:
    """Hidden states in the form in which this architecture's blocks return them: a tensor, or the first of a tuple."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def _cloned(output: Any) -> Any:
    """A block's output with a copy of its hidden states, since some blocks write into their input."""
    return (output[0].clone(), *output[1:]) if isinstance(output, tuple) else output.clone()
