"""Sites of activations: a block and one of its streams, with converters to the spellings of other tools."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Literal, get_args

from personaprobe.errors import SiteError, shortened, suggest

Stream = Literal["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"]
STREAMS: tuple[Stream, ...] = get_args(Stream)
"""The streams of a block, in the order of a forward pass."""

_SITE = re.compile(r"(?P<layer>[0-9]{1,6})\.(?P<stream>\w+)")
_TRANSFORMER_LENS = {
    "resid_pre": "hook_resid_pre",
    "attn_out": "hook_attn_out",
    "resid_mid": "hook_resid_mid",
    "mlp_out": "hook_mlp_out",
    "resid_post": "hook_resid_post",
}


@total_ordering
@dataclass(frozen=True)
class Site:
    """The activations of one stream of one transformer block, such as ``16.resid_post``.

    Attributes:
        layer: 0-based block index; never negative, never a ``hidden_states`` index.
        stream: one of ``resid_pre, attn_out, resid_mid, mlp_out, resid_post`` (TransformerLens's names).
    """

    layer: int
    stream: Stream = "resid_post"

    def __post_init__(self) -> None:
        if isinstance(self.layer, bool) or not isinstance(self.layer, int) or self.layer < 0:
            raise SiteError(
                f"a site's layer is the 0-based block index, got {shortened(self.layer)}; "
                "count from 0 at the first block (negative and hidden_states indices are not layers)"
            )
        if self.stream not in STREAMS:
            raise SiteError(f"unknown stream {shortened(self.stream)}: {suggest(str(self.stream), STREAMS)}")

    @classmethod
    def parse(cls, text: str | Site) -> Site:
        """Parse ``"16.resid_post"``; a site is returned unchanged."""
        if isinstance(text, Site):
            return text
        match = _SITE.fullmatch(text.strip())
        if match is None:
            raise SiteError(
                f"cannot read site {shortened(text)}: write LAYER.STREAM, for example 16.resid_post"
            )
        return cls(int(match["layer"]), match["stream"])  # type: ignore[arg-type]  # checked in __post_init__

    def __str__(self) -> str:
        return f"{self.layer}.{self.stream}"

    def __lt__(self, other: Site) -> bool:
        return self.order < other.order

    @property
    def order(self) -> tuple[int, int]:
        """Position in a forward pass; sites sort by it."""
        return self.layer, STREAMS.index(self.stream)

    def within(self, n_layers: int) -> Site:
        """Return this site if a model of ``n_layers`` blocks has it.

        Raises:
            SiteError: the layer is out of range.
        """
        if self.layer >= n_layers:
            raise SiteError(
                f"layer {self.layer} is out of range: the model has layers 0 to {n_layers - 1}; choose one of them"
            )
        return self

    def to_transformer_lens(self) -> str:
        """Name of the TransformerLens hook point, which is also SAELens's ``hook_name``."""
        return f"blocks.{self.layer}.{_TRANSFORMER_LENS[self.stream]}"

    @classmethod
    def from_transformer_lens(cls, name: str) -> Site:
        """Parse ``blocks.16.hook_resid_post``."""
        match = re.fullmatch(r"blocks\.([0-9]{1,6})\.hook_(\w+)", name)
        if match is None:
            raise SiteError(
                f"cannot read TransformerLens hook {shortened(name)}: expected blocks.LAYER.hook_STREAM"
            )
        return cls.parse(f"{match[1]}.{match[2]}")

    def to_hidden_states_index(self) -> int:
        """Index into Hugging Face ``output_hidden_states``: entry k is the input of block k.

        The list holds only the residual stream between blocks. Its last entry is *after* the final norm, so ``resid_post``
        of the last block has no index; callers who know ``n_layers`` must check.

        Raises:
            SiteError: the stream lies inside a block.
        """
        if self.stream == "resid_pre":
            return self.layer
        if self.stream == "resid_post":
            return self.layer + 1
        raise SiteError(f"{self} is inside a block; hidden_states holds only resid_pre and resid_post")

    def to_control_vector(self) -> str:
        """Name of the tensor in a llama.cpp control vector, which is added to the output of block k.

        Raises:
            SiteError: llama.cpp has no tensor for the site.
        """
        if self.stream != "resid_post" or self.layer == 0:
            raise SiteError(f"{self} has no control vector: llama.cpp takes resid_post of layer 1 and later")
        return f"direction.{self.layer}"


def site_above_half_way(n_layers: int) -> Site:
    """Where a difference of means is taken without further reason: block 16 of the demo model's 30."""
    return Site(n_layers // 2 + 1, "resid_post")
