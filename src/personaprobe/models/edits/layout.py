"""Where each stream lives in each architecture's module tree.

A layout names, inside a block, the module whose *output* attention and MLP add to the residual stream, and the
module whose *input* is the stream between them. It is trusted only after the self-check has read, written and
restored every stream (:mod:`personaprobe.models.self_check`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from personaprobe.errors import CheckpointError, SiteError
from personaprobe.site import STREAMS, Stream

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class BlockMap:
    """Names inside one architecture.

    Attributes:
        blocks: the list of blocks, inside the decoder.
        attn_out: module of a block whose output attention adds to the residual stream.
        mlp_out: the same for the MLP.
        resid_mid: module of a block whose input is the residual stream between the two; None where attention
            and MLP run in parallel and there is no such stream.
    """

    blocks: str
    attn_out: str
    mlp_out: str
    resid_mid: str | None


PRE_NORM = BlockMap("layers", "self_attn", "mlp", "post_attention_layernorm")
SANDWICH_NORM = BlockMap(
    "layers", "post_attention_layernorm", "post_feedforward_layernorm", "pre_feedforward_layernorm"
)
POST_NORM = BlockMap("layers", "post_attention_layernorm", "post_feedforward_layernorm", "mlp")
GPT2 = BlockMap("h", "attn", "mlp", "ln_2")
NEOX = BlockMap("layers", "attention", "mlp", "post_attention_layernorm")
NEOX_PARALLEL = BlockMap("layers", "attention", "mlp", None)
PARALLEL = BlockMap("layers", "self_attn", "mlp", None)

KNOWN: dict[str, BlockMap] = {
    "llama": PRE_NORM,
    "mistral": PRE_NORM,
    "qwen2": PRE_NORM,
    "qwen3": PRE_NORM,
    "phi3": PRE_NORM,
    "gemma2": SANDWICH_NORM,
    "gemma3_text": SANDWICH_NORM,
    "olmo2": POST_NORM,
    "gpt2": GPT2,
    "gpt_neox": NEOX_PARALLEL,
}
"""By ``config.model_type``. Any other type tries these shapes, most specific first, and must pass the self-check."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The modules of one loaded model, found.

    Attributes:
        decoder: everything up to and including the final norm.
        blocks: the transformer blocks, in order.
        head: hidden states to logits.
        names: the names they were found by.
    """

    decoder: nn.Module
    blocks: tuple[nn.Module, ...]
    head: nn.Module
    names: BlockMap

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams this architecture has."""
        return tuple(s for s in STREAMS if s != "resid_mid" or self.names.resid_mid is not None)

    def module(self, layer: int, stream: Stream) -> nn.Module:
        """The module at whose input or output the stream is met."""
        block = self.blocks[layer]
        match stream:
            case "resid_pre" | "resid_post":
                return block
            case "attn_out":
                return block.get_submodule(self.names.attn_out)
            case "mlp_out":
                return block.get_submodule(self.names.mlp_out)
            case "resid_mid":
                if self.names.resid_mid is None:
                    raise SiteError(
                        "this model runs attention and MLP in parallel: it has no resid_mid; "
                        "use resid_pre or resid_post"
                    )
                return block.get_submodule(self.names.resid_mid)


def candidates(config: Any) -> list[BlockMap]:
    """The maps worth trying for a configuration, best first."""
    model_type = str(config.model_type)
    if model_type == "gpt_neox" and not config.use_parallel_residual:
        return [NEOX]
    if model_type in KNOWN:
        return [KNOWN[model_type]]
    return [SANDWICH_NORM, PRE_NORM, POST_NORM, GPT2, NEOX, NEOX_PARALLEL, PARALLEL]


def fits(model: Any, names: BlockMap) -> Layout | None:
    """Resolve a map's names in a model, or None where one of them is not there."""
    from torch import nn

    decoder = model.get_decoder()
    try:
        blocks = decoder.get_submodule(names.blocks)
        layout = Layout(decoder, tuple(blocks), model.get_output_embeddings(), names)
        for stream in layout.streams:
            layout.module(0, stream)
    except (AttributeError, IndexError, TypeError):
        return None
    return layout if isinstance(layout.head, nn.Module) else None


def layouts(model: Any) -> list[Layout]:
    """Every layout whose names a Hugging Face causal language model has.

    Raises:
        CheckpointError: none fits; says which architecture came and which are known.
    """
    found = [layout for names in candidates(model.config) if (layout := fits(model, names)) is not None]
    if not found:
        raise CheckpointError(
            f"no layer map fits architecture {model.config.model_type!r}; known: {', '.join(sorted(KNOWN))}. "
            "Add its module names to personaprobe.models.edits.layout.KNOWN"
        )
    return found
