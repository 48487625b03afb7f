"""All patches of other packages' objects: one context manager applies them, and undoes them when its block ends.

- :func:`forward_patch` replaces ``forward`` of one module of a model: by a fused kernel, or by a result computed before.
- :func:`rotary_patch` replaces ``apply_rotary_pos_emb`` in an architecture's module of transformers: by a fused form.
- :func:`attention_patch` replaces ``_attn_implementation`` in a model's config: by attention within segments, or over the
  KV cache.
- :func:`truncation_patches` replace ``layers`` and ``norm`` of a model's decoder: by its first blocks, and no norm.

Hooks registered on a patched module still run: PyTorch calls them around ``forward``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor, nn

ROTARY_FUNCTION = "apply_rotary_pos_emb"
"""Name of the rotary embedding in every architecture's module in transformers."""

AttentionFunction: TypeAlias = "Callable[[Tensor, Tensor, Tensor, float | None, Tensor | None], Tensor]"
"""``(query, key, value, scaling, mask) -> (batch, pos, head, d_value)``; inputs are ``(batch, head, pos, d_head)``."""


@dataclass(frozen=True)
class Patch:
    """One attribute of an object, and the value it has meanwhile."""

    owner: Any
    name: str
    value: Any


def forward_patch(module: nn.Module, forward: Callable[..., Any]) -> Patch:
    """Replace what one module computes."""
    return Patch(module, "forward", forward)


def rotary_patch(modeling: ModuleType, rotary: Callable[..., tuple[Tensor, Tensor]]) -> Patch:
    """Replace the rotary embedding of an architecture, for every model of it."""
    return Patch(modeling, ROTARY_FUNCTION, rotary)


def attention_patch(config: Any, name: str, attention: AttentionFunction) -> Patch:
    """Make a model's blocks compute attention by another function.

    Args:
        config: the model's.
        name: under which the function is registered with transformers.
        attention: the function.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def as_transformers_calls_it(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        return attention(query, key, value, scaling, attention_mask), None

    ALL_ATTENTION_FUNCTIONS.register(name, as_transformers_calls_it)
    return Patch(config, "_attn_implementation", name)


def truncation_patches(decoder: nn.Module, n_blocks: int) -> tuple[Patch, Patch]:
    """Keep the first blocks of a decoder, and no final norm; the decoder names them ``layers`` and ``norm``."""
    import torch

    layers: Any = decoder.layers
    return Patch(decoder, "layers", layers[:n_blocks]), Patch(decoder, "norm", torch.nn.Identity())


@contextmanager
def patched(patches: Iterable[Patch]) -> Iterator[None]:
    """Apply patches inside the block, in order, and undo them in reverse order, also after an exception."""
    with ExitStack() as undone_at_the_end:
        # drawn one by one: a later patch may wrap the value that an earlier one has just set
        for patch in patches:
            undone_at_the_end.callback(_apply(patch))
        yield


def _apply(patch: Patch) -> Callable[[], None]:
    """Set the attribute, and return a function that restores it."""
    owner, name = patch.owner, patch.name
    # a method of the class comes back when the instance's attribute goes; accelerate puts attributes there too
    hides_method = name not in vars(owner) and callable(getattr(type(owner), name, None))
    before = getattr(owner, name)
    setattr(owner, name, patch.value)
    return partial(delattr, owner, name) if hides_method else partial(setattr, owner, name, before)
